// A field with one text a line, numbered.

import { h } from "./dom.js";

export function makeTexts(changed) {
  const gutter = h("div", { class: "gutter", "aria-hidden": "true" });
  const field = h("textarea", {
    id: "texts",
    rows: 9,
    wrap: "off",
    spellcheck: "false",
    "aria-label": "Texts, one a line",
    input: () => {
      number();
      changed();
    },
    scroll: () => (gutter.scrollTop = field.scrollTop),
  });

  /** Number the lines that hold a text. */
  function number() {
    let n = 0;
    gutter.replaceChildren(...field.value.split("\n").map((line) => h("div", {}, line.trim() ? ++n : "\u00a0")));
  }

  return {
    node: h("div", { class: "texts" }, gutter, field),
    field,
    lines: () => field.value.split("\n").map((line) => line.trim()).filter(Boolean),
    fill(lines) {
      field.value = lines.join("\n");
      number();
    },
  };
}
