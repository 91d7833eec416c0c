// Runs before the first paint: what a visitor has chosen must not flash in the other theme.
"use strict";

{
  const root = document.documentElement;
  const known = new Set(["light", "dark"]);

  const chosen = () => {
    try {
      const theme = localStorage.getItem("theme");
      return known.has(theme) ? theme : "system";
    } catch {
      return "system"; // storage is switched off
    }
  };

  const show = (theme) => {
    if (known.has(theme)) {
      root.dataset.theme = theme;
    } else {
      delete root.dataset.theme;
    }
  };

  root.classList.add("js");
  show(chosen());

  document.addEventListener("DOMContentLoaded", () => {
    const switches = document.querySelectorAll("input[name=theme]");
    for (const one of switches) {
      one.checked = one.value === chosen();
      one.addEventListener("change", () => {
        show(one.value);
        try {
          localStorage.setItem("theme", one.value);
        } catch {
          // It holds for this page only.
        }
      });
    }
  });
}
