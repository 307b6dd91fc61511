// Beside the sliders: time and quality. Foreseen while the thumb moves, measured when the answer comes.

import * as api from "./api.js";
import { digits, h } from "./dom.js";
import { share, tasks } from "./quality.js";

export function makeFigures(info) {
  const list = h("dl", { class: "figures" });
  const known = tasks(info);
  const ofWhat = known.length
    ? `Kept: the share of the score of ${info.quality.share_of} on test sets of ${listed(known)}.`
    : "The quality of this model was not measured.";
  const node = h("div", {}, list, h("p", { class: "small" }, ofWhat));
  let foreseen = new Map(); // milliseconds with nothing else to do, by layers
  let planned = "";
  const figures = { node, tokens: 32, foresee, plan, measured, forget };

  /** From the tables, at once. */
  function foresee(at, byHand) {
    if (!byHand) return;
    draw(at.layers, at.dim, foreseen.get(at.layers) ?? null, "foreseen");
  }

  /** What the answer said. */
  function measured(answer) {
    draw(answer.layers, answer.dim, answer.stages.total ?? null, "measured");
  }

  function forget() {
    list.replaceChildren();
  }

  /** Ask what each depth would take for such texts; once for each kind. */
  async function plan(texts, tokens, { tier }) {
    figures.tokens = tokens;
    const kind = JSON.stringify([texts, tokens, tier]);
    if (kind === planned) return;
    planned = kind;
    try {
      const { alternatives } = await api.plan({ texts, tokens, ...(tier ? { tier } : {}) });
      foreseen = new Map(alternatives.map(({ layers, empty_ms }) => [layers, empty_ms]));
    } catch (error) {
      if (!(error instanceof api.Refused)) throw error;
      planned = ""; // no forecast then; the answer's own time is still shown
    }
  }

  function draw(layers, dim, time, how) {
    const shares = known.map((task) => {
      const found = share(info, task, layers, dim);
      return found && figure((found * 100).toFixed(1), "%", `${task} kept`);
    });
    list.replaceChildren(
      ...[
        time === null
          ? figure("–", "ms", "time")
          : figure(how === "foreseen" ? `≈ ${digits(time)}` : digits(time), "ms", `time, ${how}`, how),
        ...shares,
      ].filter(Boolean),
    );
  }

  return figures;
}

function figure(text, unit, name, kind = "") {
  return h("div", { class: kind }, h("dt", {}, name), h("dd", {}, text, h("span", { class: "unit" }, ` ${unit}`)));
}

const listed = (names) => names.join(names.length > 2 ? ", " : " and ");
