// Before the first paint: the theme that was chosen here before, else the system's.
(() => {
  try {
    const chosen = localStorage.getItem("strata.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is off: the system's theme it is.
  }
})();
