// Model: what an exit and a dim are worth, and what they take on this machine.

import * as address from "../address.js";
import * as api from "../api.js";
import { legend, lineChart, makeNumbers, ticks } from "../chart.js";
import { nearest } from "../depth.js";
import { digits, h, ms, percent, plural, worded } from "../dom.js";
import { notice } from "../notice.js";
import { agreementTable, surface } from "../surface.js";
import { facts } from "../facts.js";
import { front, setsOf, share, tasks } from "../quality.js";

const KINDS = ["two", "one", "three"]; // similarity, search, any other task
const LENGTHS = [8, 16, 32, 64, 128, 256, 512];

export function make(info, parameters) {
  const known = tasks(info);
  const kinds = new Map(known.map((task, i) => [task, task === "search" ? "one" : task === "similarity" ? "two" : KINDS[i % 3]]));
  const dim = select(info.dims, String);
  const tokens = select(LENGTHS.filter((n) => n <= info.max_input_length), (n) => plural(n, "token"));
  const task = h("select", { change: changed }, surfaces());
  const picture = h("div", { class: "picture" });
  const numbers = makeNumbers();
  const table = h("div", {});
  const agreement = h("div", {});
  const node = h(
    "div",
    { class: "view model-view" },
    h("h1", { class: "sr" }, "Model"),
    h("p", { class: "lead" }, "What each exit, a layer to stop at, keeps of the model's quality, and what it takes on this machine."),
    h(
      "section",
      { "aria-labelledby": "worth" },
      h("h2", { id: "worth" }, "Quality over milliseconds, one point for each exit"),
      h("div", { class: "choices" }, h("label", {}, "dim", dim), h("label", {}, "one text of", tokens)),
      picture,
      numbers.node,
    ),
    h(
      "div",
      { class: "pair" },
      h(
        "section",
        { "aria-labelledby": "surface" },
        h("h2", { id: "surface" }, "Exit and dim"),
        known.length ? h("div", { class: "choices" }, h("label", {}, "share of full quality in", task)) : null,
        table,
      ),
      h("section", { "aria-labelledby": "agreement" }, h("h2", { id: "agreement" }, "Agreement between exits"), agreement),
    ),
    h("section", { "aria-labelledby": "facts" }, h("h2", { id: "facts" }, "What is served, and how"), facts(info)),
  );
  const planned = new Map(); // alternatives by tokens

  function select(values, text) {
    return h("select", { change: changed }, values.map((value) => h("option", { value }, text(value))));
  }

  function surfaces() {
    const both = known.map((name) => h("option", { value: name }, name));
    const sides = known
      .filter((name) => share(info, name, info.layers, info.full_dim, true) !== null)
      .map((name) => h("option", { value: `${name}/queries` }, `${name}, queries on full-depth documents`));
    return [...both, ...sides];
  }

  function changed() {
    address.write("model", {
      dim: dim.value,
      tokens: tokens.value,
      task: task.value,
    });
    draw();
  }

  async function draw() {
    drawTables();
    try {
      if (!planned.has(tokens.value)) {
        planned.set(tokens.value, (await api.plan({ tokens: tokens.value })).alternatives);
      }
      drawPicture(planned.get(tokens.value));
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      picture.replaceChildren(notice(error, draw));
    }
  }

  function drawTables() {
    const [name, side] = task.value.split("/");
    const at = (layers, d) => share(info, name, layers, d, side === "queries");
    const rows = side === "queries" ? info.query_exits : info.exits;
    if (known.length) table.replaceChildren(surface(rows, info.dims, at), h("p", { class: "small" }, `In per cent, measured on ${setsOf(info, name)}.`));
    else table.replaceChildren(h("p", { class: "muted" }, worded("The quality of this model was not measured: `strata profile` does.")));
    agreement.replaceChildren(...agreementTable(info));
  }

  function drawPicture(alternatives) {
    const lines = known
      .map((name) => ({ name, kind: kinds.get(name), points: points(name, alternatives) }))
      .filter((line) => line.points.length);
    numbers.draw(
      ["layers", "ms", ...lines.map(({ name }) => name)],
      alternatives.map(({ layers, empty_ms }) => [
        layers,
        digits(empty_ms),
        ...lines.map(({ points }) => percent(points.find((point) => point.layers === layers)?.y)),
      ]),
    );
    if (!lines.length) return picture.replaceChildren(times(alternatives));
    const all = lines.flatMap((line) => line.points);
    const low = Math.floor(Math.min(...all.map((p) => p.y)) * 20) / 20;
    const high = Math.max(1, ...all.map((p) => p.y));
    const most = Math.max(...all.map((p) => p.x));
    const half = info.exits.find((exit) => exit >= info.layers / 2);
    const bought = lines.map(({ name, points }) => ({ name, ...points.find(({ layers }) => layers === half) }));
    const kept = bought.map(({ name, y }) => `${percent(y)} of ${name}`).join(", ");
    const note = `${half} of ${plural(info.layers, "layer")} take ${ms(bought[0].x)} of ${ms(most)} and keep ${kept}`;
    const numbered = alternatives
      .map(({ layers }) => all.filter((point) => point.layers === layers))
      .filter((points) => points.length)
      .map((points) => ({ x: points[0].x, y: Math.max(...points.map((p) => p.y)), text: String(points[0].layers), dy: -9, quiet: true }));
    picture.replaceChildren(
      h("p", { role: "status" }, h("strong", {}, note)),
      lineChart({
        lines,
        x: { name: `ms with nothing else to do, ${info.engine.backend} ${info.engine.dtype}`, ticks: ticks(0, most, 6), low: 0, high: most * 1.02, text: String },
        y: { name: "share of full quality", ticks: ticks(low, high, 5), low, high, text: (value) => `${Math.round(value * 100)} %` },
        notes: numbered,
        words: lines.map((line) => `${line.name}: ${line.points.map((p) => p.label).join("; ")}`).join(". "),
        width: Math.max(320, picture.clientWidth),
        height: 300,
      }),
      legend(lines),
      h(
        "p",
        { class: "small" },
        "The number at a point is its layers. Filled points are on the Pareto front: no exit that takes less time is as good. ",
        `Times are the cost model's for ${plural(Number(tokens.value), "token")}, which follows what batches take on this machine. `,
        known.map((name) => `${name}: ${setsOf(info, name)}`).join("; "),
        `. Full quality is that of ${info.quality.share_of}.`,
      ),
    );
  }

  function points(name, alternatives) {
    const found = alternatives
      .map(({ layers, empty_ms }) => ({ layers, ms: empty_ms, share: share(info, name, layers, dim.value) }))
      .filter((point) => point.share !== null);
    const best = new Set(front(found));
    return found.map((point) => ({
      layers: point.layers,
      x: point.ms,
      y: point.share,
      marked: best.has(point),
      label: `${plural(point.layers, "layer")}: ${ms(point.ms)}, ${percent(point.share)}${best.has(point) ? ", on the front" : ""}`,
    }));
  }

  function times(alternatives) {
    return h("p", {}, alternatives.map(({ layers, empty_ms }) => `${plural(layers, "layer")} ${digits(empty_ms)} ms`).join(" · "));
  }

  function restore(given) {
    dim.value = nearest(info.dims, given.get("dim"), info.full_dim);
    tokens.value = nearest(LENGTHS, given.get("tokens"), 32);
    const asked = given.get("task");
    if ([...task.options].some(({ value }) => value === asked)) task.value = asked;
    changed();
  }

  let width = 0;
  new ResizeObserver(() => {
    if (picture.clientWidth === width || !planned.has(tokens.value)) return;
    width = picture.clientWidth;
    drawPicture(planned.get(tokens.value));
  }).observe(picture);
  restore(parameters);
  return { node, restore };
}
