// What is shown where there is nothing to show: refused, unreachable, loading, without a key.

import { keep, key, unsendable } from "./api.js";
import { h, plural, worded } from "./dom.js";

/** A notice for a refusal. `again` asks anew; `more` are further lines. */
export function notice(error, again, more = []) {
  if (error.status === 401) return keyForm(error, again);
  const [title, text] = words(error);
  const wait = h("p", { class: "small" });
  const node = h(
    "div",
    { class: "notice", role: "alert" },
    h("h2", {}, title),
    h("p", {}, worded(text)),
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
      return ["No answer by the deadline", error.message];
    case 424:
    case 500:
      return ["The engine failed on this", error.message];
    default:
      return ["This request cannot be met", error.message];
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
  const wrong = h("p", { class: "warning", role: "status" });
  const submit = (event) => {
    event.preventDefault();
    const given = field.value.trim();
    const character = unsendable(given);
    if (character !== null) {
      wrong.textContent = `A key cannot be sent with the character ${named(character)} in it. It may have come with what was copied.`;
      return field.select();
    }
    keep(given);
    again();
  };
  return h(
    "div",
    { class: "notice", role: "alert" },
    h("h2", {}, key() ? "This key is not known here" : "A key is needed"),
    h("p", { class: "small" }, worded(error.message)),
    h(
      "form",
      { submit },
      h("label", {}, "Key", field),
      h("button", { class: "main" }, "Use this key"),
    ),
    wrong,
    h("p", { class: "small" }, "It is kept for this tab, and forgotten when the tab is closed."),
  );
}

/** A character as it is seen, and by its number, since some are not seen. */
function named(character) {
  const number = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return /\p{C}/u.test(character) ? `U+${number}` : `${character} (U+${number})`;
}
