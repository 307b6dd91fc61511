// One request at a time, and of what is asked meanwhile only the last.

/**
 * A function that runs `work`, one call at a time; calls during one ask for a single one more at its end.
 * `work(outdated)`: `outdated()` says whether one more was asked for, so that its own result need not be shown.
 */
export function latest(work) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) return void (again = true);
    running = true;
    try {
      do {
        again = false;
        await work(() => again);
      } while (again);
    } finally {
      running = false;
    }
  };
}
