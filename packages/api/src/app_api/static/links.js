// Uses the token of a mailed link. The token is in the fragment, which browsers send to no server, and is used only
// when somebody presses the button, so that programs that follow links in mails use up no token.
const [action, query] = location.hash.slice(2).split("?");
const token = new URLSearchParams(query).get("token");
const message = document.getElementById("message");
const form = document.getElementById(action);
const password = document.getElementById("password");
const chosen = document.getElementById("chosen");
const current = document.getElementById("current");

const ACTIONS = {
  verify: {
    ask: "Confirm that this address is yours. Only the password that you enter here counts.",
    path: "/auth/email/verify",
    body: () => ({ token, password: chosen.value }),
    done: "Your address is confirmed. You can sign in with that password now.",
  },
  "change-email": {
    ask: "Confirm that this is to be the address of your account.",
    path: "/auth/email/change/confirm",
    body: () => ({ token, password: current.value }),
    done: "Your account has this address now. All your other sign-ins have ended.",
  },
  "sign-in": {
    ask: "Sign in, if this is the browser that has asked for the link.",
    leads: true, // to the console, which shows what comes next
  },
  "undo-email-change": {
    ask: "Bring this address back to your account. All sign-ins end, and you set a new password.",
    path: "/auth/email/change/undo",
    body: () => ({ token }),
    done: "Your account has this address again. A mail with a link for a new password is on its way to it.",
  },
  reset: {
    ask: "Choose a new password. All your sign-ins will end.",
    path: "/auth/password/reset",
    body: () => ({ token, new_password: password.value }),
    done: "Your password is set. Sign in with it.",
  },
};

async function use(event) {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const response = await fetch(ACTIONS[action].path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(ACTIONS[action].body()),
    });
    form.hidden = response.ok;
    message.textContent = response.ok ? ACTIONS[action].done : (await response.json()).detail;
  } catch {
    message.textContent = "The server cannot be reached. Try again in a moment.";
  }
  button.disabled = false;
}

if (token && Object.hasOwn(ACTIONS, action)) {
  history.replaceState(null, "", location.pathname); // neither in the history nor in a bookmark
  message.textContent = ACTIONS[action].ask;
  form.hidden = false;
  if (ACTIONS[action].leads) form.elements.link.value = token;
  else form.addEventListener("submit", use);
} else {
  message.textContent = "There is nothing to do here without a link from a mail.";
}
