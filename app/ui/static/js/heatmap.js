// Pairwise similarities as tables of shaded cells with the number in each.

import { change, cosine, h } from "./dom.js";
import { wide } from "./wide.js";

/** Similarities at one depth; `low` is where the shade begins, 1 where it is full. */
export function similarityMap(title, matrix, low) {
  const cell = (value, i, j) =>
    i === j ? h("td", { class: "same" }, "1") : shaded(cosine(value), "--high", (value - low) / (1 - low || 1));
  return map(title, matrix, cell, scale(cosine(low), "1", "--high"));
}

/** What changed: one scale to both sides of none. */
export function differenceMap(title, matrix, most) {
  const cell = (value, i, j) =>
    i === j ? h("td", { class: "same" }) : shaded(change(value), value < 0 ? "--low" : "--high", Math.abs(value) / most);
  return map(title, matrix, cell, scale(change(-most), change(most), "--high", "--low"));
}

function map(title, matrix, cell, legend) {
  const numbers = matrix.map((_, i) => i + 1);
  return h(
    "figure",
    { class: "map" },
    wide(
      title,
      h(
        "table",
        {},
        h("caption", {}, title),
        h("thead", {}, h("tr", {}, h("td", {}), numbers.map((n) => h("th", { scope: "col" }, n)))),
        h(
          "tbody",
          {},
          matrix.map((row, i) => h("tr", {}, h("th", { scope: "row" }, i + 1), row.map((value, j) => cell(value, i, j)))),
        ),
      ),
    ),
    legend,
  );
}

function shaded(text, end, part) {
  const share = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return h("td", { class: "moves", style: { "background-color": `color-mix(in oklab, var(${end}) ${share}, var(--paper))` } }, text);
}

function scale(from, to, end, start = "--paper") {
  const middle = start === "--paper" ? "" : "var(--paper), ";
  const strip = h("span", {
    class: "strip",
    style: { background: `linear-gradient(to right in oklab, var(${start}), ${middle}var(${end}))` },
  });
  return h("figcaption", { "aria-hidden": "true" }, from, strip, to);
}
