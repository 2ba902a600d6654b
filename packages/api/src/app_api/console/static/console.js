// Keeps the parts of a page that are marked with data-live="…" up to date, over Server-Sent Events. Without it, each page
// works all the same and shows how things were when it was loaded.
//
// A new text is not put in the place of the old one: the differences are applied to what is there. So focus, selection,
// scroll, open <details> and what somebody is typing stay as they are.

// Times marked with data-local are written in the viewer's own zone, unless that is UTC, which stands beside them.

const address = document.body.dataset.stream;
const LIVE_AT_ONCE = 4;
let source = null;
let timer = 0;
let turn = null;

const parts = () => [...document.querySelectorAll("[data-live]")];

function open() {
  close();
  const marks = [...new Set(parts().map((part) => part.dataset.live))];
  if (!address || marks.length === 0 || document.visibilityState === "hidden") return;
  turn = new AbortController();
  if (navigator.locks) waitForTurn(turn.signal, () => follow(marks));
  else follow(marks);
}

// Over HTTP/1.1 a browser has six connections to a host, for all its windows, and a stream keeps one: a seventh page would
// not load. So four are live at once; another stays as it was loaded until one of these is closed or hidden.
async function waitForTurn(over, start) {
  const hold = (place, options) =>
    navigator.locks.request(`console-live-${place}`, options, (lock) => {
      if (!lock || over.aborted) return false;
      start();
      return new Promise((done) => over.addEventListener("abort", () => done(true)));
    });
  for (let place = 0; place < LIVE_AT_ONCE; place++) {
    if (over.aborted || (await hold(place, { ifAvailable: true }))) return;
  }
  await hold(Math.floor(Math.random() * LIVE_AT_ONCE), { signal: over }).catch(() => {});
}

function follow(marks) {
  source = new EventSource(`${address}?${new URLSearchParams(marks.map((mark) => ["watch", mark]))}`);
  source.addEventListener("fragment", (event) => show(JSON.parse(event.data)));
  source.addEventListener("reload", () => location.reload());
  source.addEventListener("error", () => {
    // Browsers come back by themselves after a stream that has ended, but not after a 503.
    if (source?.readyState === EventSource.CLOSED) timer = setTimeout(open, 1000 + 4000 * Math.random());
  });
}

function close() {
  clearTimeout(timer);
  turn?.abort();
  source?.close();
  source = null;
}

function show({ mark, html }) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  for (const part of parts()) {
    if (part.dataset.live === mark) morphChildren(part, fresh.cloneNode(true));
  }
  showLocalTimes();
}

const clock = { weekday: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };

function showLocalTimes() {
  for (const time of document.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    const seconds = at.getSeconds() ? { second: "2-digit" } : {};
    time.textContent = at.getTimezoneOffset() ? at.toLocaleString(undefined, { ...clock, ...seconds }) : "";
  }
}

showLocalTimes();

// On a phone the navigation is a line to be scrolled.
document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key || "" : "");
const isBlank = (node) => node.nodeType === Node.TEXT_NODE && !node.nodeValue.trim();
const isLike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

// Makes the children of `old` those of `fresh`. Elements with an id or a data-key are found wherever they have moved to.
function morphChildren(old, fresh) {
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    // A parser drops blanks that the page has here; without them, the element behind would look like another one.
    while (place && isBlank(place) && !isBlank(wanted)) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
    const moved = keyed.get(keyOf(wanted));
    const match = moved && isLike(moved, wanted) ? moved : place && isLike(place, wanted) ? place : null;
    if (match === null) {
      old.insertBefore(wanted, place);
    } else {
      if (match === place) place = place.nextSibling;
      else old.insertBefore(match, place);
      morph(match, wanted);
    }
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function morph(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  const kept = (name) => (old.nodeName === "DETAILS" && name === "open") || (old.nodeName === "INPUT" && name === "checked");
  for (const { name, value } of fresh.attributes) {
    if (!kept(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!kept(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  if (old.nodeName === "TEXTAREA") return; // its text is somebody's who is writing
  morphChildren(old, fresh);
}

document.addEventListener("visibilitychange", open);
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => {
  // A page from the back-forward cache may be that of somebody who has signed out since.
  if (event.persisted) location.reload();
  else open();
});
