// Where the time of an answer went, as one bar and the numbers under it.

import { h, ms, plural } from "./dom.js";

export function timeBar(answer) {
  const { tokenize = 0, queue = 0, inference = 0, total = 0 } = answer.stages;
  const rest = Math.max(0, total - tokenize - queue - inference);
  const parts = [
    ["tokenize", tokenize, 1],
    ["queue", queue, 2],
    [answer.layers === 1 ? "layer 1" : `layers 1–${answer.layers}`, inference, 3],
    ["answer", rest, 4],
  ];
  const whole = Math.max(total, tokenize + queue + inference) || 1;
  const words = parts.map(([name, time]) => `${name} ${ms(time)}`).join(", ");
  const facts = [
    `${plural(answer.vectors.length, "text")}, ${plural(answer.tokens, "token")}`,
    answer.cut ? `${plural(answer.cut, "text")} cut: longer than the model reads` : null,
    `${ms(total)} in the server (foreseen ${ms(answer.predicted)}), ${ms(answer.roundTrip)} with the way to this page`,
    `tier ${answer.tier}`,
    answer.slack === null ? null : `${ms(Math.abs(answer.slack))} ${answer.slack < 0 ? "over" : "left of"} the deadline`,
  ].filter(Boolean);
  return [
    h("h2", {}, "Where the time went"),
    h(
      "div",
      { class: "bar", role: "img", "aria-label": words },
      parts.map(([, time, n]) => h("span", { class: `part-${n} moves`, style: { width: `${(100 * time) / whole}%` } })),
    ),
    h(
      "dl",
      { class: "parts" },
      parts.map(([name, time, n]) => h("div", {}, h("dt", { class: `key-${n}` }, name), h("dd", {}, ms(time)))),
    ),
    h("p", { class: "small" }, facts.join(" · ")),
  ];
}
