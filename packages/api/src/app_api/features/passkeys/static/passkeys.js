// Passkeys: a form marked with data-passkey is sent with what the browser's dialog has made. Without this script the forms
// stay hidden, and the other ways in remain.

const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const decodeIds = (list = []) => list.map((each) => ({ ...each, id: decode(each.id) }));
const STALE = 4 * 60 * 1000; // milliseconds; the challenge in a page is good for a little longer

// Not by toJSON() and parseCreationOptionsFromJSON(): older browsers lack them, and password managers break them.
const ceremonies = {
  async create(form) {
    if (performance.now() > STALE) return location.reload();
    const { challenge, user, excludeCredentials, ...rest } = JSON.parse(form.dataset.options);
    const publicKey = {
      ...rest,
      challenge: decode(challenge),
      user: { ...user, id: decode(user.id) },
      excludeCredentials: decodeIds(excludeCredentials),
    };
    const { id, type, response } = await navigator.credentials.create({ publicKey });
    const { clientDataJSON, attestationObject } = response;
    return { id, type, response: { ...encoded({ clientDataJSON, attestationObject }), transports: transportsOf(response) } };
  },
  async get(form) {
    const answer = await fetch(form.dataset.options, { method: "POST" });
    const options = await answer.json();
    if (!answer.ok) throw new Error(options.detail);
    const { challenge, allowCredentials, ...rest } = options;
    const publicKey = { ...rest, challenge: decode(challenge), allowCredentials: decodeIds(allowCredentials) };
    const { id, type, response } = await navigator.credentials.get({ publicKey });
    const { clientDataJSON, authenticatorData, signature, userHandle } = response;
    return { id, type, response: encoded({ clientDataJSON, authenticatorData, signature, userHandle }) };
  },
};
// Password managers answer with objects whose methods throw.
function transportsOf(response) {
  try {
    return response.getTransports();
  } catch {
    return [];
  }
}
const encoded = (buffers) =>
  Object.fromEntries(Object.entries(buffers).flatMap(([name, buffer]) => (buffer ? [[name, encode(buffer)]] : [])));

const REASONS = {
  NotAllowedError: "No passkey was chosen. You can try again.",
  InvalidStateError: "This device has a passkey of this account already.",
  SecurityError: `Passkeys do not work at ${location.host}: open this page at the address that it is meant to have.`,
  NotSupportedError: "This device makes no passkeys that can be used here.",
  TypeError: "This did not work. Try again, or use another way in.",
};

async function send(form) {
  const [button, said] = [form.querySelector("button"), form.querySelector("[role=alert]")];
  button.disabled = true;
  said.hidden = true;
  try {
    const credential = await ceremonies[form.dataset.passkey](form);
    if (!credential) return;
    form.elements.credential.value = JSON.stringify(credential);
    form.submit();
  } catch (error) {
    said.textContent = REASONS[error.name] ?? error.message;
    said.hidden = false;
    button.disabled = false;
  }
}

const forms = window.PublicKeyCredential ? document.querySelectorAll("form[data-passkey]") : [];
for (const form of forms) {
  document.querySelector("[data-without-passkeys]")?.remove();
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form);
  });
}

// Lets the browser and its password manager forget passkeys that were removed here, and know the address of today.
const known = document.querySelector("[data-passkeys]");
if (known && window.PublicKeyCredential) {
  const { accepted, details } = JSON.parse(known.dataset.passkeys);
  const signal = (name, options) => PublicKeyCredential[name]?.(options)?.catch(() => {});
  signal("signalAllAcceptedCredentials", accepted);
  signal("signalCurrentUserDetails", details);
}
