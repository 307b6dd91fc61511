// Five small time series with one time axis, drawn by uPlot (vendored: see vendor/).

import { computed, given, h, ms, plural } from "./dom.js";

const HEIGHT = 92;
const AXIS = 20; // more, for the chart that carries the time axis

/** What each chart shows: its lines by sample, and the figures of the last one at its right edge. */
function charts(info) {
  const deep = (samples) => [...new Set(samples.flatMap((s) => Object.keys(s.layers).map(Number)))].sort((a, b) => a - b);
  const times = (s) => [
    ["p50", ms(s?.p50_ms)],
    ["p99", ms(s?.p99_ms)],
    ["deadline", given(s?.deadline_ms)],
    ["p50 foreseen", ms(s?.predicted_p50_ms)],
  ];
  return [
    {
      name: "requests a second",
      unit: "",
      lines: () => [line("answered", (s) => s.requests_per_s, "--accent", true), line("refused or late", lost, "--warning")],
      figures: (s) => [["answered", whole(s?.requests_per_s)], ["refused or late", whole(s && lost(s))]],
    },
    {
      name: "depth, share of requests (the stronger the colour, the deeper)",
      unit: "%",
      lines: (samples) => stacked(deep(samples), info.layers),
      figures: (s) => [["most often", most(s?.layers)], ["mean", mean(s?.layers)]],
    },
    {
      name: "time, ms",
      unit: "ms",
      lines: () => [
        line("p99", (s) => s.p99_ms, "--ink"),
        line("p50", (s) => s.p50_ms, "--accent"),
        line("deadline", (s) => s.deadline_ms, "--warning", false, [2, 4]),
        line("p50 foreseen", (s) => s.predicted_p50_ms, "--muted", false, [6, 3]),
      ],
      figures: times,
    },
    {
      name: "in time, by tier",
      unit: "%",
      lines: (samples) => tierLines(samples),
      figures: (s, samples) => tierNames(samples).map((name) => [name, inPercent(shareInTime(s, name))]),
    },
    {
      name: "queue, texts",
      axis: true,
      unit: "",
      lines: () => [line("texts", (s) => s.queue_texts, "--accent", true)],
      figures: (s) => [["texts", whole(s?.queue_texts)], ["oldest", s?.queue_texts ? ms(s.queue_oldest_ms) : "–"]],
    },
  ];
}

const line = (name, of, colour, filled = false, dash = undefined) => ({ name, of, colour, filled, dash });
const lost = (s) => s.refused + s.expired + s.failed;
const whole = (value) => (value === null || value === undefined ? "–" : String(Math.round(value)));

function most(layers = {}) {
  const [best] = Object.entries(layers).sort(([, a], [, b]) => b - a);
  return best ? plural(Number(best[0]), "layer") : "–";
}

function mean(layers = {}) {
  const all = Object.entries(layers);
  const count = all.reduce((sum, [, n]) => sum + n, 0);
  return count ? `${(all.reduce((sum, [depth, n]) => sum + depth * n, 0) / count).toFixed(1)} layers` : "–";
}

/** Shares that add up to a hundred, the deepest drawn first, so that each shallower one covers its part. */
function stacked(depths, layers) {
  const upTo = (depth) => (s) => {
    const counts = Object.entries(s.layers);
    const all = counts.reduce((sum, [, n]) => sum + n, 0);
    return all ? (100 * counts.filter(([d]) => d <= depth).reduce((sum, [, n]) => sum + n, 0)) / all : null;
  };
  return depths.toReversed().map((depth) => {
    const colour = `color-mix(in oklab, var(--accent) ${Math.round((100 * depth) / layers)}%, var(--line))`;
    return { name: `${depth} layers or fewer`, of: upTo(depth), colour, filled: true, solid: true };
  });
}

const TIER_DASHES = [undefined, [6, 3], [2, 3], [10, 3, 2, 3]];

/** All that were asked for in the time shown: a line keeps its name when its tier falls silent. */
const tierNames = (samples) => [...new Set(samples.flatMap((s) => Object.keys(s.tiers)))];

const inPercent = (share) => (share === null ? "–" : `${Math.round(share)} %`);

function tierLines(samples) {
  return tierNames(samples).map((name, i) => line(name, (s) => shareInTime(s, name), i ? "--ink" : "--accent", false, TIER_DASHES[i % 4]));
}

/** Of what a tier asked for in a second: answered in time, in per cent. */
function shareInTime(s, name) {
  const tier = s.tiers[name];
  const all = tier ? tier.answered + tier.refused + tier.expired + tier.failed : 0;
  return all ? (100 * tier.in_time) / all : null;
}

export function makeSeries(info) {
  const kept = charts(info).map((chart) => {
    const place = h("div", { class: "plot", role: "img" });
    const last = h("dl", { class: "last" });
    const node = h("section", { class: "series" }, h("h2", {}, chart.name), h("div", { class: "series-row" }, place, last));
    return { ...chart, place, last, node, plot: null, drawn: "" };
  });
  const node = h("div", { class: "all-series" }, kept.map(({ node }) => node));
  let last = null;

  async function draw(samples, seconds) {
    last = [samples, seconds];
    await library();
    const end = samples.at(-1)?.at ?? Date.now() / 1000;
    const x = samples.map(({ at }) => at);
    for (const chart of kept) {
      const lines = chart.lines(samples);
      const data = [x, ...lines.map(({ of }) => samples.map(of))];
      const kind = JSON.stringify(lines.map(({ name }) => name));
      if (chart.drawn !== kind) make(chart, lines, kind);
      chart.plot?.setData(data, false);
      chart.plot?.setScale("x", { min: end - seconds, max: end });
      tell(chart, samples, lines);
    }
  }

  function make(chart, lines, kind) {
    chart.plot?.destroy();
    chart.drawn = kind;
    const muted = computed("var(--muted)");
    const grid = { stroke: computed("var(--line)"), width: 1 };
    const axis = { stroke: muted, grid, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    chart.plot = new window.uPlot(
      {
        width: chart.place.clientWidth || 600,
        height: heightOf(chart),
        legend: { show: false },
        cursor: { sync: { key: "now" }, points: { show: false }, drag: { x: false, y: false } },
        scales: { x: { time: true, auto: false }, y: { range: (_, low, high) => bounds(chart.unit, high) } },
        axes: [
          { ...axis, grid: { show: false }, size: chart.axis ? 24 : 4, space: 90, values: (_u, marks) => marks.map((at) => (chart.axis ? clock(at) : "")) },
          { ...axis, size: 56, splits: (_u, _i, low, high) => [low, (low + high) / 2, high], values: (_u, marks) => marks.map((mark) => short(mark) + (chart.unit === "%" ? " %" : "")) },
        ],
        series: [
          {},
          ...lines.map(({ name, colour, filled, solid, dash }) => {
            const stroke = computed(colour.startsWith("--") ? `var(${colour})` : colour);
            const fill = solid ? stroke : filled ? stroke.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)") : undefined;
            // A share is of one second, so that it is a bar; nothing is drawn where there were no requests.
            const paths = solid ? window.uPlot.paths.bars({ size: [1, 24], align: -1 }) : undefined;
            return { label: name, stroke, width: solid ? 0 : 1.5, fill, dash, paths, points: { show: false, filter: alone, size: 4 } };
          }),
        ],
      },
      null,
      chart.place,
    );
  }

  function tell(chart, samples, lines) {
    const said = chart.figures(samples.at(-1), samples);
    const key = (name) => {
      const drawn = lines.find((line) => line.name === name);
      return drawn && h("span", { class: drawn.dash ? "swatch dashed" : "swatch", style: { color: `var(${drawn.colour})` } });
    };
    chart.last.replaceChildren(...said.map(([name, text]) => h("div", {}, h("dt", {}, key(name), name), h("dd", {}, text))));
    chart.place.setAttribute("aria-label", `${chart.name}: ${said.map(([name, text]) => `${name} ${text}`).join(", ") || "nothing yet"}`);
  }

  new ResizeObserver(() => {
    for (const chart of kept) chart.plot?.setSize({ width: chart.place.clientWidth, height: heightOf(chart) });
  }).observe(node);

  return {
    node,
    draw,
    /** Other colours: canvases are drawn anew. */
    themed() {
      for (const chart of kept) chart.drawn = "";
      if (last) draw(...last);
    },
  };
}

/** The samples between two seconds without any, which no line reaches. */
function alone(plot, line) {
  const values = plot.data[line];
  return [...values.keys()].filter((i) => values[i] != null && values[i - 1] == null && values[i + 1] == null);
}

/** From nothing to a round number that holds all; per cent end at a hundred. */
function bounds(unit, high) {
  if (unit === "%") return [0, 100];
  if (!(high > 0)) return [0, 1];
  const power = 10 ** Math.floor(Math.log10(high));
  return [0, [1, 2, 4, 6, 8, 10].map((n) => n * power).find((n) => n >= high)];
}

const short = (value) => (value >= 10000 ? `${value / 1000}k` : String(Number(value.toFixed(2))));

const heightOf = (chart) => HEIGHT + (chart.axis ? AXIS : 0);
const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour12: false });

let loading = null;

/** uPlot, fetched when the first series is drawn. */
function library() {
  loading ??= new Promise((done, failed) => {
    const root = document.documentElement.dataset.root;
    document.head.append(
      h("link", { rel: "stylesheet", href: `${root}/ui/vendor/uPlot.css` }),
      h("script", { src: `${root}/ui/vendor/uPlot.js`, load: () => done(), error: () => failed(new Error("uPlot was not served")) }),
    );
  });
  return loading;
}
