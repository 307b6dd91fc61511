// What the model's tables say: shares of the source model's own score, by task.

/** Tasks that were measured: those that choices are made by, then those that only a test set tells of. */
export function tasks(info) {
  const sets = Object.values(info.quality?.sets ?? {});
  return [...new Set([...sets.filter((each) => !each.decides), ...sets].map((each) => each.task))];
}

/**
 * The share of a task at an exit and dim, or null. `queries`: of queries at this depth on documents at full depth.
 * The mean over the task's sets; sets that decide nothing count only where the task has no others.
 */
export function share(info, task, layers, dim, queries = false) {
  const sets = countingSets(info, task).map(([, each]) => each);
  const shares = sets.map((each) => (queries ? each.queries : each.scores)?.[layers]?.[dim] / each.reference_score);
  return shares.length && shares.every(Number.isFinite) ? shares.reduce((a, b) => a + b) / shares.length : null;
}

/** The sets that a task's share is the mean of, in words. */
export function setsOf(info, task) {
  return countingSets(info, task)
    .map(([name, each]) => `${name} (${each.metric.replace(/ x 100$/, "")}, ${each.count} ${each.documents ? "queries" : "pairs"})`)
    .join(", ");
}

function countingSets(info, task) {
  const all = Object.entries(info.quality?.sets ?? {}).filter(([, each]) => each.task === task);
  const deciding = all.filter(([, each]) => each.decides);
  return deciding.length ? deciding : all;
}

/** The points that no other beats both in time and in quality. Points: {ms, share}. */
export function front(points) {
  return points.filter(
    (point) =>
      !points.some(
        (other) =>
          other.ms <= point.ms && other.share >= point.share && (other.ms < point.ms || other.share > point.share),
      ),
  );
}
