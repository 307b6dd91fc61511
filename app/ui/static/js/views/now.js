// Now: the last minutes, one sample a second, asked for only while this is seen.

import * as address from "../address.js";
import * as api from "../api.js";
import { h, plural } from "../dom.js";
import { notice } from "../notice.js";
import { makeSeries } from "../series.js";

const SPANS = [60, 300, 600];
const EVERY_MS = 1000;

export function make(info, parameters) {
  const span = h("select", { change: changed }, SPANS.map((s) => h("option", { value: s }, s === 60 ? "minute" : `${s / 60} minutes`)));
  const series = makeSeries(info);
  const problem = h("div", {});
  const words = h("p", { class: "small", role: "status" }, "Recording begins when somebody looks; the first second is on its way.");
  const node = h(
    "div",
    { class: "view now" },
    h("h1", { class: "sr" }, "Now"),
    h("p", { class: "lead" }, "What this server did in the last seconds, for all who call it."),
    h(
      "div",
      { class: "now-head" },
      h("div", { class: "choices" }, h("label", {}, "the last", span)),
      words,
    ),
    problem,
    series.node,
    h("p", { class: "small" }, "The same as JSON: ", h("a", { href: `${api.operations}/now?seconds=60` }, "/now?seconds=60"), ". It is recorded only while somebody looks."),
  );
  let samples = [];
  let timer = null;
  let looking = false;

  async function look() {
    if (document.hidden) return;
    const asked = samples.length ? Math.ceil(Date.now() / 1000 - samples.at(-1).at) + 2 : Number(span.value);
    try {
      const found = await api.now(Math.min(600, Math.max(2, asked)));
      const last = samples.at(-1)?.at ?? 0;
      samples = [...samples, ...found.samples.filter(({ at }) => at > last)].slice(-SPANS.at(-1));
      problem.replaceChildren();
      draw(found.state);
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      stop();
      problem.replaceChildren(notice(error, seen));
    }
  }

  function draw(state) {
    const shown = samples.slice(-Number(span.value));
    series.draw(shown, Number(span.value));
    const last = samples.at(-1);
    const asked = shown.some((s) => s.requests_per_s || s.refused || s.expired || s.failed);
    words.textContent = last
      ? `${state === "ready" ? "" : `${state} · `}${plural(last.workers.alive, "worker")}, ${Math.round(last.busy * 100)} % busy · the last batch ran to ${plural(last.level, "layer")}${asked ? "" : " · no requests in this time"}`
      : "";
  }

  async function poll() {
    const began = performance.now();
    await look();
    if (looking) timer = setTimeout(poll, Math.max(0, EVERY_MS - (performance.now() - began)));
  }

  function seen() {
    problem.replaceChildren();
    if (looking) return;
    looking = true;
    poll();
  }

  function stop() {
    looking = false;
    clearTimeout(timer);
  }

  function changed() {
    address.write("now", { seconds: span.value });
    series.draw(samples.slice(-Number(span.value)), Number(span.value));
  }

  function restore(given) {
    if (SPANS.includes(Number(given.get("seconds")))) span.value = given.get("seconds");
    changed();
  }

  restore(parameters);
  return { node, restore, seen, hidden: stop, themed: () => series.themed() };
}
