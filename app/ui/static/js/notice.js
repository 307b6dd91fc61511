// What is shown where there is nothing to show: refused, unreachable, loading, without a key.

import { keep, key } from "./api.js";
import { h, plural } from "./dom.js";

/** A notice for a refusal. `again` asks anew; `more` are further lines. */
export function notice(error, again, more = []) {
  if (error.status === 401) return keyForm(error, again);
  const [title, text] = words(error);
  const wait = h("p", { class: "small" });
  const node = h(
    "div",
    { class: "notice", role: "alert" },
    h("h2", {}, title),
    h("p", {}, text),
    more,
    wait,
    h("div", {}, h("button", { type: "button", click: again }, "Ask again")),
  );
  const seconds = error.after ?? (error.status === 0 ? 2 : null);
  if (seconds) countDown(node, wait, seconds, again);
  else wait.remove();
  return node;
}

function words(error) {
  switch (error.status) {
    case 0:
      return ["No answer", "The server cannot be reached. It may be restarting, or the way to it is cut."];
    case 403:
      return ["Not with this key", error.message];
    case 429:
      return ["Too much at once", error.message];
    case 503:
      return ["Refused at once, rather than answered late", error.message];
    case 504:
      return ["The deadline passed while it waited", error.message];
    case 424:
    case 500:
      return ["The engine failed on this", error.message];
    default:
      return ["Not like this", error.message];
  }
}

/** Say how long until it is asked again, and ask. Ends when the notice is gone. */
function countDown(node, place, seconds, again) {
  let left = seconds;
  const tell = () => (place.textContent = `Asked again in ${plural(left, "second")}.`);
  tell();
  const timer = setInterval(() => {
    if (!node.isConnected && left < seconds) return clearInterval(timer);
    left -= 1;
    if (left > 0) return tell();
    clearInterval(timer);
    again();
  }, 1000);
}

function keyForm(error, again) {
  const field = h("input", { type: "password", name: "key", autocomplete: "off", required: true, size: 36 });
  const submit = (event) => {
    event.preventDefault();
    keep(field.value.trim());
    again();
  };
  return h(
    "div",
    { class: "notice", role: "alert" },
    h("h2", {}, key() ? "This key is not known here" : "A key is needed"),
    h("p", { class: "small" }, error.message),
    h(
      "form",
      { submit },
      h("label", {}, "Key", field),
      h("button", { class: "main" }, "Use this key"),
    ),
    h("p", { class: "small" }, "It is kept for this tab, and forgotten when the tab is closed."),
  );
}
