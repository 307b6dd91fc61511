// The head of the page: which model is served, by what, and in which state.

import { h, plural } from "./dom.js";

/** What the server says of itself, and a warning of its own where it has one. */
export function tellServed(info) {
  const engine = info.engine;
  document.getElementById("model").textContent = nameOf(info);
  const facts = loaded(info) ? [engine.backend, engine.dtype, engine.device, plural(engine.workers, "worker")] : [];
  tellState([info.state, ...facts].join(" · "), info.state !== "ready");
  document.getElementById("warning")?.remove();
  if (loaded(info) && info.warning) {
    document.getElementById("content").before(h("p", { id: "warning", class: "warning", role: "note" }, info.warning));
  }
}

/** The state in a few words; `bad`: nothing is served. */
export function tellState(text, bad) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text; // a screen reader says it again whenever it is set
  state.classList.toggle("bad", bad);
}

/** Whether an engine runs the model: until then nothing is known of it. */
export const loaded = (info) => Boolean(info?.engine?.backend);

/** The model as answers name it. */
export const nameOf = (info) => `${info.model_id}@${info.model_sha}`;
