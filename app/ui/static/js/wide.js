// What may be wider than the screen: it scrolls in a frame of its own, and says so where it has to.

import { h } from "./dom.js";

/** A frame about a table; `name` is what a screen reader calls it. */
export function wide(name, table) {
  const frame = h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": name }, table);
  const hint = h("p", { class: "small", hidden: true }, "Scroll sideways for the rest.");
  new ResizeObserver(() => (hint.hidden = frame.scrollWidth <= frame.clientWidth)).observe(frame);
  return h("div", { class: "in-frame" }, frame, hint);
}
