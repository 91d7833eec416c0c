// Buttons with data-copy copy the text of the element that they name.

const told = document.getElementById("told");
const SHOWN_FOR = 1800;
const timers = new WeakMap();

async function copied(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  // Browsers keep the clipboard from pages that come over http.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  area.setAttribute("aria-hidden", "true");
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function tell(button, state) {
  const label = button.querySelector("span");
  button.dataset.label ??= label.textContent;
  label.textContent = told.dataset[state];
  told.textContent = told.dataset[state];
  button.dataset.state = state;
  clearTimeout(timers.get(button));
  const back = () => {
    label.textContent = button.dataset.label;
    told.textContent = "";
    delete button.dataset.state;
  };
  timers.set(button, setTimeout(back, SHOWN_FOR));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) {
    return;
  }
  const text = document.getElementById(button.dataset.copy).textContent.trimEnd();
  let done = false;
  try {
    done = await copied(text);
  } catch {
    // The visitor, or the browser, does not allow it.
  }
  button.focus();
  tell(button, done ? "copied" : "failed");
});
