// Depth and dim: the stack of layers that fills up to the exit, and a slider for each.

import { h, plural } from "./dom.js";

/**
 * `layers` of the model, its `exits` and `dims`; `at` is {layers, dim} to begin with.
 * `moved(at, name)` is called whenever the user moves one of them.
 */
export function makeDepth({ layers, exits, dims, at, moved }) {
  const bars = Array.from({ length: layers }, (_, i) =>
    h("span", { class: exits.includes(i + 1) ? "moves" : "moves no-exit", "data-layer": i + 1 }),
  );
  const stack = h("div", { class: "stack", "aria-hidden": "true", click: pick }, bars);
  const sliders = { layers: slider("layers", "depth", exits), dim: slider("dim", "dim", dims) };
  const node = h(
    "div",
    { class: "depth" },
    stack,
    h("div", { class: "sliders" }, sliders.layers.parts, sliders.dim.parts),
  );

  function slider(name, word, values) {
    const input = h("input", {
      type: "range",
      id: `slide-${name}-${++count}`,
      min: 0,
      max: values.length - 1,
      step: 1,
      input: () => choose(name, values[Number(input.value)]),
    });
    const output = h("output", { for: input.id });
    const ends = h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, values[0]), h("span", {}, values.at(-1)));
    return { input, output, values, parts: [h("label", { for: input.id }, word), input, output, ends] };
  }

  function choose(name, value) {
    if (value === undefined || value === at[name]) return;
    at = { ...at, [name]: value };
    draw();
    moved(at, name);
  }

  function pick(event) {
    const layer = Number(event.target.dataset?.layer);
    if (layer) choose("layers", exits.findLast((exit) => exit <= layer) ?? exits[0]);
  }

  function draw() {
    for (const [name, { input, output, values }] of Object.entries(sliders)) {
      const words = name === "layers" ? plural(at.layers, "layer") : String(at.dim);
      input.value = values.indexOf(at[name]);
      input.setAttribute("aria-valuetext", name === "layers" ? words : `${words} numbers`);
      output.textContent = words;
    }
    bars.forEach((bar, i) => bar.classList.toggle("run", i < at.layers));
  }

  draw();
  return {
    node,
    get at() {
      return at;
    },
    /** Show another place without telling anybody. */
    show(other) {
      at = { ...at, ...other };
      draw();
    },
    /** One exit or dim up or down. */
    step(name, by) {
      const values = sliders[name].values;
      choose(name, values[values.indexOf(at[name]) + by]);
    },
  };
}

let count = 0;

/** The value of a list that is nearest to what an address asked for. */
export function nearest(values, asked, otherwise) {
  if (asked === null || !Number.isFinite(Number(asked))) return otherwise;
  return values.reduce((best, value) => (Math.abs(value - asked) < Math.abs(best - asked) ? value : best));
}
