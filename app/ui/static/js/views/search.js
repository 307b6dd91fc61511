// Search: queries at a chosen depth and dim against passages that are indexed at full depth.

import * as address from "../address.js";
import * as api from "../api.js";
import { lineChart, makeNumbers, ticks } from "../chart.js";
import { makeDepth, nearest } from "../depth.js";
import { h, ms, plural, settled, worded } from "../dom.js";
import { latest } from "../latest.js";
import { openLibrary } from "../library.js";
import { makeLists } from "../lists.js";
import { notice } from "../notice.js";
import { ndcg10 } from "../vectors.js";

export function make(info, parameters) {
  const exits = info.query_exits.length ? info.query_exits : info.exits;
  const half = exits.find((exit) => exit >= info.layers / 2) ?? info.layers;
  const depth = makeDepth({
    layers: info.layers,
    exits,
    dims: info.dims,
    at: { layers: half, dim: info.full_dim },
    moved: changed,
  });
  const field = h("input", { type: "search", id: "query", autocomplete: "off", input: settled(250, changed) });
  const judged = h("select", { change: () => judged.value && ((field.value = judged.value), changed()) });
  const lists = makeLists();
  const curve = h("figure", { class: "curve" });
  const numbers = makeNumbers();
  const score = h("p", { role: "status" });
  const problem = h("div", {});
  const results = h("section", { class: "results", hidden: true, "aria-label": "Ranked passages" }, lists.node, h("div", { class: "aside" }, score, curve, numbers.node));
  const node = h(
    "div",
    { class: "view search" },
    h("h1", { class: "sr" }, "Search"),
    h("p", { class: "lead" }, `Passages are indexed once, at ${plural(info.layers, "layer")}. A query may run fewer: see what that does to the ranking.`),
    h(
      "section",
      { class: "panel ask", "aria-label": "What is asked" },
      h(
        "div",
        { class: "ask-query" },
        h("label", { for: "query" }, "query"),
        field,
        h("label", {}, "judged queries", judged),
        h("p", { class: "small", id: "about" }),
      ),
      depth.node,
    ),
    problem,
    results,
  );
  const rank = latest(once);
  let library = null;
  let measuring = false;

  async function open() {
    problem.replaceChildren(h("p", { class: "loading" }, "Fetching the passages."));
    try {
      library ??= await openLibrary(info);
      if (!library.indexed) await library.index(indexing());
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      return problem.replaceChildren(notice(error, open));
    }
    problem.replaceChildren();
    results.hidden = false;
    node.querySelector("#about").textContent =
      `${library.documents.length} passages that come with this page, indexed at ${plural(info.layers, "layer")} and ${info.full_dim} dims. ` +
      `Depth and dim are those of the query. Of judged queries the right passages are known.`;
    const words = library.queries.map(({ text }) => h("option", {}, text));
    judged.replaceChildren(h("option", { value: "" }, "own query"), ...words);
    if (!field.value) field.value = library.queries[0].text;
    await changed();
    measure();
  }

  function indexing() {
    const bar = h("span", {});
    const words = h("p", { class: "loading" });
    const tell = (done) => {
      const all = library.documents.length;
      words.textContent = `Indexing ${done} of ${all} passages at full depth: ${info.layers} layers, ${info.full_dim} dims.`;
      bar.style.setProperty("width", `${(100 * done) / all}%`);
    };
    tell(0);
    problem.replaceChildren(words, h("div", { class: "bar-of-progress", "aria-hidden": "true" }, bar));
    return tell;
  }

  async function changed() {
    const query = field.value.trim();
    if (library) judged.value = library.queries.some(({ text }) => text === query) ? query : "";
    address.write("search", { query, ...depth.at });
    if (!library?.indexed || results.hidden) return;
    await rank();
  }

  async function once(outdated) {
    const text = field.value.trim();
    drawCurve();
    if (!text) {
      lists.node.hidden = true;
      score.textContent = "Type what you look for, or take a judged query.";
      return;
    }
    const { layers, dim } = depth.at;
    try {
      const { vectors: here, answer } = await library.embed([text], layers);
      const { vectors: full } = await library.embed([text], info.layers);
      problem.replaceChildren();
      if (!outdated()) draw(text, library.rank(here[0], dim), library.rank(full[0], info.full_dim), answer);
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      problem.replaceChildren(notice(error, changed));
    }
  }

  function draw(text, here, full, answer) {
    const { layers, dim } = depth.at;
    const grades = library.queries.find((query) => query.text === text)?.grades;
    lists.node.hidden = false;
    lists.draw(
      { title: `query at ${plural(layers, "layer")}, ${dim} dims`, short: plural(layers, "layer"), order: here.order },
      { title: `query at ${plural(info.layers, "layer")}, ${info.full_dim} dims`, short: plural(info.layers, "layer"), order: full.order },
      library.documents,
      grades,
    );
    const both = here.order.slice(0, 10).filter((i) => full.order.indexOf(i) < 10).length;
    const parts = [`${both} of the top ten are in the top ten of full depth, too.`];
    if (grades) parts.push(`nDCG@10 of this query is ${ndcg10(here.order, grades).toFixed(2)}, at full depth ${ndcg10(full.order, grades).toFixed(2)}.`);
    if (answer) parts.push(`The query took ${ms(answer.stages.total)}.`);
    score.textContent = parts.join(" ");
  }

  /** The judged queries at each exit, one after the other; the chosen and the full depth first. */
  async function measure() {
    if (measuring) return;
    measuring = true;
    const texts = library.queries.map(({ text }) => text);
    const order = new Set([depth.at.layers, info.layers, ...exits]);
    try {
      for (const layers of order) {
        await library.embed(texts, layers);
        drawCurve();
      }
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      curve.append(h("p", { class: "small warning" }, "The curve ends here: ", worded(error.message)));
    }
    measuring = false;
  }

  function drawCurve() {
    const { layers, dim } = depth.at;
    const points = exits
      .map((exit) => ({ x: exit, y: library.quality(exit, dim) }))
      .filter(({ y }) => y !== null)
      .map(({ x, y }) => ({ x, y, label: `${plural(x, "layer")}: ${y.toFixed(2)}` }));
    if (!points.length) {
      curve.replaceChildren(h("p", { class: "loading" }, `Measuring nDCG@10 of ${library.queries.length} judged queries at each depth.`));
      return;
    }
    const low = Math.min(0.5, Math.floor(Math.min(...points.map(({ y }) => y)) * 10) / 10);
    const at = points.find(({ x }) => x === layers);
    const words = `nDCG@10 of ${library.queries.length} judged queries over depth at ${dim} dims: ${points.map(({ label }) => label).join(", ")}`;
    numbers.draw(["layers of the query", "nDCG@10"], points.map(({ x, y }) => [x, y.toFixed(2)]));
    const missing = exits.length - points.length;
    curve.replaceChildren(
      h("h2", {}, `nDCG@10 of ${library.queries.length} judged queries, ${dim} dims`),
      lineChart({
        lines: [{ kind: "one", points }],
        x: { name: "layers of the query", ticks: exits, low: exits[0], high: exits.at(-1), text: String },
        y: { name: "", ticks: ticks(low, 1, 4), low, high: 1, text: (value) => String(Number(value.toFixed(2))) },
        thumb: at,
        notes: at ? [{ x: at.x, y: at.y, text: at.y.toFixed(2), dy: at.y > 0.9 ? 24 : -14 }] : [],
        words,
        width: 420,
        height: 240,
      }),
      h("figcaption", {}, missing ? `Measuring: ${missing} of ${exits.length} depths to go.` : "1 is a perfect ranking: what answers a query comes first, then what helps. Passages stay at full depth."),
    );
  }

  function restore(given) {
    depth.show({
      layers: nearest(exits, given.get("layers"), depth.at.layers),
      dim: nearest(info.dims, given.get("dim"), depth.at.dim),
    });
    field.value = given.get("query") ?? field.value;
    changed();
  }

  restore(parameters);
  open();
  return { node, depth, text: field, restore };
}
