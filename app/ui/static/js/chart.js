// Small charts with a unit on each axis, as SVG of our own: lines with a mark at each exit.

import { h, s } from "./dom.js";

/**
 * A chart of lines. `lines`: [{name, kind, points: [{x, y, label, marked}]}]; `x`, `y`: {name, ticks, low, high, text}.
 * `thumb`: {x, y} of what is chosen. `notes`: [{x, y, text, dx, dy, anchor, quiet}] beside points. `words` is what a screen reader says.
 */
export function lineChart({ lines, x, y, thumb, words, width = 560, height = 280, notes = [] }) {
  const edge = { left: 52, right: 20, top: 24, bottom: 44 };
  const across = (value) => edge.left + ((value - x.low) / (x.high - x.low)) * (width - edge.left - edge.right);
  const up = (value) => height - edge.bottom - ((value - y.low) / (y.high - y.low)) * (height - edge.top - edge.bottom);
  const grid = y.ticks.map((tick) => [
    s("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: up(tick), y2: up(tick) }),
    s("text", { class: "tick", x: edge.left - 8, y: up(tick) + 4, "text-anchor": "end" }, y.text(tick)),
  ]);
  const feet = x.ticks.map((tick) =>
    s("text", { class: "tick", x: across(tick), y: height - edge.bottom + 18, "text-anchor": "middle" }, x.text(tick)),
  );
  const drawn = lines.map(({ kind, points }) => [
    s("polyline", { class: `line ${kind}`, points: points.map((p) => `${across(p.x)},${up(p.y)}`).join(" ") }),
    points.map((p) =>
      s(
        "g",
        { class: `mark ${kind}${p.marked === false ? " off" : ""}` },
        s("circle", { cx: across(p.x), cy: up(p.y), r: p.marked === false ? 3 : 4 }),
        s("title", {}, p.label),
      ),
    ),
  ]);
  const said = notes.map((note) =>
    s("text", { class: note.quiet ? "note quiet" : "note", x: across(note.x) + (note.dx ?? 0), y: up(note.y) + (note.dy ?? -12), "text-anchor": note.anchor ?? "middle" }, note.text),
  );
  const chosen = thumb
    ? [
        s("line", { class: "thumb", x1: across(thumb.x), x2: across(thumb.x), y1: edge.top, y2: height - edge.bottom }),
        s("circle", { class: "thumb", cx: across(thumb.x), cy: up(thumb.y), r: 7 }),
      ]
    : [];
  return s(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    grid,
    feet,
    s("text", { class: "axis", x: width - edge.right, y: height - 6, "text-anchor": "end" }, x.name),
    s("text", { class: "axis", x: edge.left, y: 10 }, y.name),
    drawn,
    chosen,
    said,
  );
}

/** The names of a chart's lines, with their marks. */
export function legend(lines) {
  return h("p", { class: "legend small" }, lines.map(({ name, kind }) => h("span", { class: `key ${kind}` }, name)));
}

/** The same as numbers, for whoever cannot point at a mark; `draw(head, rows)` leaves it open or closed. */
export function makeNumbers() {
  const place = h("div", { class: "wide" });
  const row = (cells, kind) => h("tr", {}, cells.map((cell, i) => (i && kind === "td" ? h("td", {}, cell) : h("th", { scope: kind === "td" ? "row" : "col" }, cell))));
  return {
    node: h("details", { class: "numbers" }, h("summary", {}, "as numbers"), place),
    draw(head, rows) {
      place.replaceChildren(
        h("table", {}, h("thead", {}, row(head, "th")), h("tbody", {}, rows.map((cells) => row(cells, "td")))),
      );
    },
  };
}

/** Round numbers from low to high, about as many as asked for. */
export function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-6; tick += step) found.push(Number(tick.toFixed(6)));
  return found;
}
