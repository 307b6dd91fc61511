// Tables of shaded cells with the number in each: exit and dim, exit and exit.

import { h } from "./dom.js";
import { wide } from "./wide.js";

/** Shares by exit and dim, in per cent. `at(layers, dim)` is a share or null. */
export function surface(exits, dims, at) {
  const values = exits.flatMap((exit) => dims.map((dim) => at(exit, dim))).filter((value) => value !== null);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const cell = (exit, dim) => {
    const value = at(exit, dim);
    return value === null ? h("td", {}, "–") : shaded((value * 100).toFixed(1), (value - low) / (high - low || 1));
  };
  return table("layers", exits, dims.map((dim) => [dim, `${dim} dims`]), cell, "Share of full quality in per cent, by layers and dim");
}

/** Mean cosine between the vectors of two exits, where it was measured. */
export function agreementTable(info) {
  const found = info.agreement;
  if (!found) return [h("p", { class: "muted" }, "The agreement of this model's exits was not measured.")];
  const { exits, mean, bar } = found;
  const low = Math.min(...mean.flat());
  const cell = (row, column) => {
    const value = mean[exits.indexOf(row)][exits.indexOf(column)];
    return row === column ? h("td", { class: "same" }, "1") : shaded(value.toFixed(2).replace(/^0/, ""), (value - low) / (1 - low || 1));
  };
  const shared = info.shared_exits[info.full_dim].join(", ");
  return [
    table("layers", exits, exits.map((exit) => [exit, String(exit)]), cell, "Mean cosine of the same text at two exits"),
    h(
      "p",
      { class: "small" },
      `Mean cosine of the same text at two exits, of ${found.count} texts at ${info.full_dim} dims. `,
      shared && `Exits ${shared} may share one index: their mean is at least ${bar.mean}, and one text in a hundred is below ${bar.p01} at most.`,
    ),
  ];
}

function table(corner, rows, columns, cell, caption) {
  return wide(
    caption,
    h(
      "table",
      { class: "shades" },
      h("caption", { class: "sr" }, caption),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, corner), columns.map(([, text]) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row), columns.map(([column]) => cell(row, column))))),
    ),
  );
}

function shaded(text, part) {
  const share = `${Math.round(100 * Math.min(1, Math.max(0, part)))}%`;
  return h("td", { style: { "background-color": `color-mix(in oklab, var(--high) ${share}, var(--paper))` } }, text);
}
