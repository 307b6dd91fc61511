// A refusal for want of time: what would have fitted.

import * as api from "./api.js";
import { given, h, ms, plural } from "./dom.js";

const AMPLE_MS = 3_600_000; // with a budget no depth is ruled out for want of one, and with this none for want of time

/** Lines for the notice: the deepest of the exits allowed that the budget has time for now, behind what is queued. */
export async function refusalHelp(error, ask, texts, tokens) {
  const budget = ask.budget_ms;
  if (!budget || ![503, 504].includes(error.status)) return [];
  let alternatives;
  try {
    ({ alternatives } = await api.plan({ ...ask, budget_ms: AMPLE_MS, texts, tokens }));
  } catch {
    return []; // nothing can be foreseen now
  }
  const allowed = alternatives.filter(({ ruled_out }) => ruled_out === null);
  const fits = allowed.filter(({ queued_ms }) => queued_ms <= budget).at(-1);
  const [fewest] = allowed;
  const words = fits
    ? `What would fit now: ${plural(fits.layers, "layer")}, about ${ms(fits.queued_ms)} of the ${given(budget)}.`
    : `Nothing fits in ${given(budget)} now: the shallowest exit allowed, ${plural(fewest.layers, "layer")}, takes about ${ms(fewest.queued_ms)}.`;
  return [h("p", {}, words)];
}
