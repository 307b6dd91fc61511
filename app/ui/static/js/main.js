// The frame around the views: what is served, which view is shown, theme and keys.

import * as address from "./address.js";
import { info, onAnswer, Refused } from "./api.js";
import { h } from "./dom.js";
import { loaded, nameOf, tellServed, tellState } from "./head.js";
import { notice } from "./notice.js";

const VIEWS = ["try", "search", "model", "now"];
const LOOK_AGAIN_MS = 1000; // while the model loads, or no server is found
const content = document.getElementById("content");
let made = {};
let served = null;
let shown = null;
let attempt = 0;
let outdated = false; // whether the head may be: nothing answered, or nothing that could be read
let looking = false;
let later = null;

async function start() {
  const mine = ++attempt;
  try {
    served = await info();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    tellRefused(error);
    return content.replaceChildren(notice(error, start));
  }
  if (mine !== attempt) return;
  tellServed(served);
  if (!loaded(served)) {
    content.replaceChildren(
      h("p", { class: "loading" }, `The model is ${served.state}. This page looks again every second.`),
    );
    setTimeout(start, LOOK_AGAIN_MS);
    return;
  }
  if (served.state !== "ready") later = setTimeout(look, LOOK_AGAIN_MS);
  await show();
}

function tellRefused(error) {
  tellState(error.status === 401 ? "needs a key" : "no answer", true);
}

/** The head follows the last answer. Where that may come from another start of the server, it is asked what it serves. */
function heard({ found, serving, model }) {
  if (!loaded(served)) return; // `start` tells
  if (!found) {
    outdated = true;
    tellState("no answer", true);
  } else if (outdated || !serving || (model && model !== nameOf(served))) look();
}

/** Ask what is served now, until it is ready; the views are made anew where it is something else. */
async function look() {
  if (!loaded(served) || looking) return;
  looking = true;
  clearTimeout(later);
  try {
    const found = await info();
    outdated = false;
    tellServed(found);
    if (found.state !== "ready") later = setTimeout(look, LOOK_AGAIN_MS);
    else if (JSON.stringify(found) !== JSON.stringify(served)) {
      served = found;
      made = {};
      await show();
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    outdated = true;
    tellRefused(error);
    if (error.status === 0) later = setTimeout(look, LOOK_AGAIN_MS);
  } finally {
    looking = false;
  }
}

/** Show the view that the address names; it is made at its first showing. */
async function show() {
  if (!loaded(served)) return;
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
  document.getElementById("keys").hidden = !shown.depth; // elsewhere they move nothing
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
document.addEventListener("visibilitychange", () => document.hidden || look());
addEventListener("hashchange", () => {
  show();
  look();
});
addEventListener("keydown", pressed);
nameTheme();
onAnswer(heard);
start();
