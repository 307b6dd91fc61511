// The frame around the views: what is served, which view is shown, theme and keys.

import * as address from "./address.js";
import { info, Refused } from "./api.js";
import { h, plural } from "./dom.js";
import { notice } from "./notice.js";

const VIEWS = ["try", "search", "model", "now"];
const LOOK_AGAIN_MS = 1000; // while the model loads
const content = document.getElementById("content");
const made = {};
let served = null;
let shown = null;
let attempt = 0;

async function start() {
  const mine = ++attempt;
  try {
    served = await info();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tell(error.status === 401 ? "needs a key" : "no answer", true);
    return content.replaceChildren(notice(error, start));
  }
  if (mine !== attempt) return;
  const engine = served.engine;
  document.getElementById("model").textContent = `${served.model_id}@${served.model_sha}`;
  const facts = engine ? [engine.backend, engine.dtype, engine.device, plural(engine.workers, "worker")] : [];
  tell([served.state, ...facts].join(" · "), served.state !== "ready");
  if (!engine) {
    content.replaceChildren(
      h("p", { class: "loading" }, `The model is ${served.state}. This page looks again every second.`),
    );
    setTimeout(start, LOOK_AGAIN_MS);
    return;
  }
  if (served.warning && !document.getElementById("warning")) {
    content.before(h("p", { id: "warning", class: "warning", role: "note" }, served.warning));
  }
  await show();
}

function tell(text, bad) {
  const state = document.getElementById("state");
  state.textContent = text;
  state.classList.toggle("bad", bad);
}

/** Show the view that the address names; it is made at its first showing. */
async function show() {
  if (!served?.engine) return;
  const { view: asked, parameters } = address.read();
  const name = VIEWS.includes(asked) ? asked : "try";
  for (const link of document.querySelectorAll("#views a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!made[name]) {
    const module = await import(`./views/${name}.js`);
    made[name] ??= module.make(served, parameters);
  } else if (parameters.size) made[name].restore?.(parameters);
  if (name !== address.read().view && address.read().view !== asked) return;
  if (shown !== made[name]) shown?.hidden?.();
  shown = made[name];
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · Strata explorer`;
  content.replaceChildren(shown.node);
  shown.seen?.();
}

/** Arrows move depth and, with Shift, dim, unless they mean something where the focus is; / goes to the text. */
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input:not([type=range]), textarea, select, [role=tablist]");
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "/" && shown?.text) {
    event.preventDefault();
    shown.text.focus();
    return;
  }
  const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
  const vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
  if (!step || !shown?.depth || (vertical && event.target.type !== "range")) return;
  if (!event.shiftKey && event.target.type === "range") return; // the slider's own
  event.preventDefault();
  shown.depth.step(event.shiftKey ? "dim" : "layers", step);
}

const themes = ["auto", "light", "dark"];
const themeButton = document.getElementById("theme");

function nameTheme() {
  themeButton.textContent = `theme: ${document.documentElement.dataset.theme ?? "auto"}`;
}

themeButton.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme ?? "auto";
  const next = themes[(themes.indexOf(now) + 1) % themes.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("strata.theme", next);
  nameTheme();
  shown?.themed?.();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown?.themed?.());
addEventListener("hashchange", show);
addEventListener("keydown", pressed);
nameTheme();
start();
