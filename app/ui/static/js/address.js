// The address holds the view and all that was chosen in it, after the #, which no server sees.

/** The view that the address names, and its parameters. */
export function read() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { view: path || "try", parameters: new URLSearchParams(query ?? "") };
}

/** Write a view's parameters; those that are null or empty are left out. No new entry in the history. */
export function write(view, parameters) {
  if (read().view !== view) return;
  const kept = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  history.replaceState(null, "", `#/${view}${query ? `?${query}` : ""}`);
}
