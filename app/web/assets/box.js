// What is typed is rewritten by the proxy while one types.

const form = document.querySelector(".box");
const texts = JSON.parse(form.dataset.texts);
const typed = document.getElementById("typed");
const code = document.querySelector("#rewritten code");
const notes = document.getElementById("rewriting");
const root = document.documentElement.dataset.root;
const PAUSE = 150;
const ROWS = { least: 5, most: 18 };

let timer = 0;
let asking = new AbortController();

/** Return a text with each of the names in a <mark>. */
function marked(text, names) {
  const fragment = document.createDocumentFragment();
  let rest = text;
  while (rest) {
    const found = names
      .map((name) => ({ name, at: rest.indexOf(name) }))
      .filter(({ at }) => at >= 0)
      .sort((one, other) => one.at - other.at || other.name.length - one.name.length)[0];
    if (!found) {
      break;
    }
    const mark = document.createElement("mark");
    mark.textContent = found.name;
    fragment.append(rest.slice(0, found.at), mark);
    rest = rest.slice(found.at + found.name.length);
  }
  fragment.append(rest);
  return fragment;
}

function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}

function item([name, why]) {
  const element = document.createElement("li");
  const image = document.createElement("code");
  image.textContent = name;
  element.append(image, ` ${texts[why.replace(" ", "-")]}`);
  return element;
}

function show({ text, changes, left }) {
  code.replaceChildren(marked(text, changes.map(([, name]) => name)));
  notes.replaceChildren();
  if (changes.length) {
    notes.append(paragraph(texts.changed.replace("{count}", changes.length)));
  } else if (!left.length && text.trim()) {
    notes.append(paragraph(texts.nothing));
  }
  if (left.length) {
    const list = document.createElement("ul");
    list.append(...left.map(item));
    notes.append(list);
  }
}

function grow() {
  const lines = typed.value.split("\n", ROWS.most).length;
  typed.rows = Math.max(ROWS.least, lines);
}

async function rewrite() {
  clearTimeout(timer);
  grow();
  asking.abort();
  asking = new AbortController();
  if (!typed.value.trim()) {
    show({ text: "", changes: [], left: [] });
    return;
  }
  try {
    const answer = await fetch(`${root}page/rewrite`, {
      method: "POST",
      body: typed.value,
      signal: asking.signal,
    });
    if (answer.ok) {
      show(await answer.json());
    } else {
      notes.replaceChildren(paragraph(answer.status === 413 ? texts["too-long"] : texts.failed));
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      notes.replaceChildren(paragraph(texts.failed));
    }
  }
}

typed.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(rewrite, PAUSE);
});
typed.addEventListener("focus", () => {
  if (typed.value === typed.defaultValue) {
    typed.select();
  }
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  rewrite();
});
for (const example of document.querySelectorAll("[data-example]")) {
  example.addEventListener("click", (event) => {
    event.preventDefault();
    typed.value = example.dataset.example;
    rewrite();
  });
}
// Browsers put back what was typed before the page was left.
if (typed.value !== typed.defaultValue) {
  rewrite();
}
