// A refusal for want of time: what would have fitted.

import * as api from "./api.js";
import { h, ms, plural } from "./dom.js";

/** Lines for the notice: the deepest exit that the budget allows now, behind what is queued. */
export async function refusalHelp(error, ask, texts, tokens) {
  const budget = ask.budget_ms;
  if (!budget || ![422, 503, 504].includes(error.status)) return [];
  let alternatives;
  try {
    ({ alternatives } = await api.plan({ texts, tokens }));
  } catch {
    return []; // nothing can be foreseen now
  }
  const fits = alternatives.filter(({ queued_ms }) => queued_ms <= budget).at(-1);
  const quickest = alternatives[0];
  const words = fits
    ? `What would fit now: ${plural(fits.layers, "layer")}, about ${ms(fits.queued_ms)} of the ${ms(budget)}.`
    : `Nothing fits in ${ms(budget)} now: the shallowest exit, ${plural(quickest.layers, "layer")}, takes about ${ms(quickest.queued_ms)}.`;
  return [h("p", {}, words)];
}
