// Try: texts at a chosen depth beside another one, what moved, and where the time went.

import * as address from "../address.js";
import * as api from "../api.js";
import { makeDepth, nearest } from "../depth.js";
import { cosine, h, plural, settled } from "../dom.js";
import { EXAMPLES } from "../examples.js";
import { makeFigures } from "../figures.js";
import { differenceMap, similarityMap } from "../heatmap.js";
import { latest } from "../latest.js";
import { notice } from "../notice.js";
import { refusalHelp } from "../refusal.js";
import { makeSnippets } from "../snippets.js";
import { makeTexts } from "../texts.js";
import { timeBar } from "../times.js";
import { pairwise } from "../vectors.js";

const MOST = 14; // texts on a map
const FIRST = Object.keys(EXAMPLES)[0];
const BUDGETS = [5, 10, 20, 50, 100, 250, 1000];
const LEAST_MOVE = 0.05; // full shade of the differences is never less than this

export function make(info, parameters) {
  const full = { layers: info.layers, dim: info.full_dim };
  const half = info.exits.find((exit) => exit >= info.layers / 2) ?? info.layers;
  const depth = makeDepth({
    layers: info.layers,
    exits: info.exits,
    dims: info.dims,
    at: { layers: half, dim: full.dim },
    moved: (_, name) => {
      if (name === "layers") budget.value = "";
      changed();
    },
  });
  const texts = makeTexts(settled(400, changed));
  const examples = h(
    "select",
    { change: () => examples.value && fill(examples.value) },
    h("option", { value: "" }, "own texts"),
    Object.keys(EXAMPLES).map((name) => h("option", {}, name)),
  );
  const budget = select(
    [["", "none"], ...BUDGETS.map((budget) => [budget, `${budget} ms`]), ["tier", "the tier's own"]],
    changed,
  );
  const tier = select([["", "the key's own"], ...info.tiers.map(({ name }) => [name, name])], changed);
  const role = select([["", "none"], ["query", "query"], ["document", "document"]], changed);
  const other = select(info.exits.map((exit) => [exit, plural(exit, "layer")]).reverse(), changed);
  const figures = makeFigures(info);
  const maps = h("div", { class: "maps" });
  const moves = h("p", { class: "small", role: "status" });
  const times = h("div", { class: "times" });
  const problem = h("div", {});
  const snippets = makeSnippets();
  const node = h(
    "div",
    { class: "view try" },
    h("h1", { class: "sr" }, "Try"),
    h("p", { class: "lead" }, `Stop the model at one of its ${plural(info.layers, "layer")}: fewer take less time. The maps show which similarities that changes.`),
    h(
      "section",
      { class: "panel ask", "aria-label": "What is asked" },
      h("div", { class: "ask-texts" }, h("div", { class: "choices" }, h("label", {}, "examples", examples)), texts.node),
      h(
        "div",
        { class: "ask-how" },
        depth.node,
        figures.node,
        h(
          "div",
          { class: "choices" },
          h("label", {}, "or budget", budget),
          info.tiers.length > 1 ? h("label", {}, "tier", tier) : null,
          h("label", {}, "role", role),
          h("label", {}, "compare with", other),
        ),
      ),
    ),
    problem,
    h("section", { "aria-label": "Similarities" }, maps, moves),
    h("section", { class: "panel below" }, times, snippets.node),
  );
  const run = latest(once);
  const compared = new Map(); // answers at the other depth, by what was asked

  function asked() {
    const ask = { dim: depth.at.dim };
    if (budget.value === "") ask.layers = depth.at.layers;
    else if (budget.value !== "tier") ask.budget_ms = Number(budget.value);
    if (tier.value) ask.tier = tier.value;
    if (role.value) ask.input_type = role.value;
    return ask;
  }

  function changed() {
    const lines = texts.lines();
    const name = Object.keys(EXAMPLES).find((name) => same(EXAMPLES[name], lines));
    examples.value = name ?? "";
    address.write("try", {
      layers: budget.value === "" ? depth.at.layers : null,
      dim: depth.at.dim,
      budget: budget.value,
      tier: tier.value,
      role: role.value,
      with: Number(other.value) === full.layers ? null : other.value,
      example: name === FIRST ? null : name,
      texts: name ? null : lines.join("\n"),
    });
    figures.foresee(depth.at, budget.value === "");
    snippets.show({
      address: api.address,
      texts: lines.length ? lines : ["…"],
      model: info.model_id,
      asked: asked(),
      keyed: Boolean(api.key()),
    });
    run();
  }

  async function once(outdated) {
    const lines = texts.lines().slice(0, MOST);
    if (!lines.length) return empty();
    const ask = asked();
    try {
      const found = await api.embed(lines, ask);
      const reference = await atOther(lines, ask, found);
      problem.replaceChildren();
      if (!outdated()) draw(lines, found, reference);
      figures.plan(lines.length, Math.round(found.tokens / lines.length), ask);
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      if (!outdated()) await refused(error, ask, lines.length);
    }
  }

  async function atOther(lines, ask, found) {
    const layers = Number(other.value);
    if (layers === found.layers) return found;
    const { budget_ms: _, ...rest } = ask;
    const like = { ...rest, layers };
    const name = JSON.stringify([lines, like]);
    if (!compared.has(name)) {
      if (compared.size > 50) compared.clear();
      compared.set(name, await api.embed(lines, like));
    }
    return compared.get(name);
  }

  async function refused(error, ask, count) {
    const more = await refusalHelp(error, ask, count, figures.tokens);
    problem.replaceChildren(notice(error, run, more));
    maps.classList.add("stale");
    figures.forget();
  }

  function empty() {
    problem.replaceChildren();
    maps.replaceChildren(h("p", { class: "muted" }, "Write two texts or more, a line each, or take an example."));
    moves.textContent = "";
    times.replaceChildren();
    figures.forget();
  }

  function draw(lines, found, reference) {
    if (budget.value !== "") depth.show({ layers: found.layers });
    figures.measured(found, found.layers);
    const here = shown(found);
    const there = shown(reference);
    const moved = here.map((row, i) => row.map((value, j) => value - there[i][j]));
    const outer = [...here, ...there].flat();
    const low = Math.floor(Math.min(...outer) * 20) / 20;
    const most = Math.max(LEAST_MOVE, ...moved.flat().map(Math.abs));
    maps.classList.remove("stale");
    maps.replaceChildren(
      similarityMap(`similarity at ${plural(reference.layers, "layer")}`, there, low),
      similarityMap(`similarity at ${plural(found.layers, "layer")}`, here, low),
      differenceMap("what moved (difference)", moved, most),
    );
    moves.textContent = mostMoved(here, there, moved, found, reference) + cutOff();
    times.replaceChildren(...timeBar(found));
  }

  function cutOff() {
    const count = texts.lines().length;
    return count > MOST ? ` Of ${count} texts the first ${MOST} are compared.` : "";
  }

  function fill(name) {
    texts.fill(EXAMPLES[name]);
    changed();
  }

  function restore(given) {
    depth.show({
      layers: nearest(info.exits, given.get("layers"), depth.at.layers),
      dim: nearest(info.dims, given.get("dim"), depth.at.dim),
    });
    pick(budget, given.get("budget") ?? "");
    pick(tier, given.get("tier") ?? "");
    pick(role, given.get("role") ?? "");
    pick(other, given.get("with") ?? String(full.layers));
    texts.fill(given.get("texts")?.split("\n") ?? EXAMPLES[given.get("example")] ?? EXAMPLES[FIRST]);
    changed();
  }

  restore(parameters);
  return { node, depth, text: texts.field, restore };
}

/** Cosines of each with each as the maps have them, in hundredths: what moved is the difference of what is seen. */
const shown = ({ vectors }) => pairwise(vectors).map((row) => row.map((value) => Math.round(100 * value) / 100));

const same = (a, b) => a.length === b.length && a.every((text, i) => text === b[i]);

function select(options, changed) {
  return h("select", { change: () => changed() }, options.map(([value, text]) => h("option", { value }, text)));
}

function pick(field, value) {
  if ([...field.options].some((option) => option.value === value)) field.value = value;
}

/** The pair that moved the most, in words. */
function mostMoved(here, there, moved, found, reference) {
  if (found.layers === reference.layers) return "Both maps are of the same depth.";
  let [a, b] = [0, Math.min(1, moved.length - 1)];
  moved.forEach((row, i) => row.forEach((value, j) => i < j && Math.abs(value) > Math.abs(moved[a][b]) && ([a, b] = [i, j])));
  if (a === b) return "";
  if (!moved[a][b]) return "No pair of texts moved by a hundredth.";
  const [from, to] = [cosine(there[a][b]), cosine(here[a][b])];
  return `Texts ${a + 1} and ${b + 1} moved the most: ${from} at ${plural(reference.layers, "layer")}, ${to} at ${found.layers}.`;
}
