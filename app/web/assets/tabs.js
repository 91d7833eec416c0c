// The links to the clients become tabs, by the pattern of the ARIA Authoring Practices Guide.

const list = document.querySelector(".tabs");
const tabs = [...list.children];
const panels = tabs.map((tab) => document.querySelector(tab.hash));
const wide = matchMedia("(min-width: 52rem)");

function select(chosen) {
  tabs.forEach((tab, at) => {
    const is = tab === chosen;
    tab.setAttribute("aria-selected", String(is));
    tab.tabIndex = is ? 0 : -1;
    panels[at].hidden = !is;
  });
}

function named() {
  return tabs.find((tab) => tab.hash === location.hash);
}

function moved(at, key) {
  switch (key) {
    case "ArrowRight":
    case "ArrowDown":
      return (at + 1) % tabs.length;
    case "ArrowLeft":
    case "ArrowUp":
      return (at - 1 + tabs.length) % tabs.length;
    case "Home":
      return 0;
    case "End":
      return tabs.length - 1;
    default:
      return -1;
  }
}

function turn() {
  list.setAttribute("aria-orientation", wide.matches ? "vertical" : "horizontal");
}

list.setAttribute("role", "tablist");
tabs.forEach((tab, at) => {
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", panels[at].id);
  panels[at].setAttribute("role", "tabpanel");
  panels[at].setAttribute("aria-labelledby", tab.id);
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    select(tab);
    // Others can be sent the address of what is shown.
    history.replaceState(history.state, "", tab.hash);
  });
});
list.addEventListener("keydown", (event) => {
  const at = tabs.indexOf(event.target);
  if (event.altKey || event.ctrlKey || event.metaKey || at < 0) {
    return;
  }
  if (event.key === " ") {
    event.preventDefault();
    tabs[at].click();
    return;
  }
  const next = moved(at, event.key);
  if (next >= 0) {
    event.preventDefault();
    tabs[next].focus();
    tabs[next].click();
  }
});
addEventListener("hashchange", () => {
  const tab = named();
  if (tab) {
    select(tab);
  }
});
wide.addEventListener("change", turn);
turn();
select(named() ?? tabs[0]);
