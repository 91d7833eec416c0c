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

/** Return a text with each of the names in a <mark>, as app/web/shown.py does it. */
function marked(text, names) {
  const known = new Set(names);
  const lengths = [...new Set(names.map((name) => name.length))].sort((one, two) => two - one);
  const hosts = [...new Set(names.map((name) => name.split("/")[0]))];
  const fragment = document.createDocumentFragment();
  let done = 0;
  for (const start of starts(text, hosts)) {
    const fits = lengths.map((length) => text.slice(start, start + length));
    const name = start < done ? undefined : fits.find((one) => known.has(one));
    if (name) {
      const mark = document.createElement("mark");
      mark.textContent = name;
      fragment.append(text.slice(done, start), mark);
      done = start + name.length;
    }
  }
  fragment.append(text.slice(done));
  return fragment;
}

/** Return the places where one of the hosts stands, in their order. */
function starts(text, hosts) {
  const places = [];
  for (const host of hosts) {
    for (let at = text.indexOf(host); at >= 0; at = text.indexOf(host, at + 1)) {
      places.push(at);
    }
  }
  return places.sort((one, two) => one - two);
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

function show({ text, changes, skipped }) {
  code.replaceChildren(marked(text, changes.map(([, name]) => name)));
  notes.replaceChildren();
  if (changes.length) {
    notes.append(paragraph(texts.changed.replace("{count}", changes.length)));
  } else if (!skipped.length && text.trim()) {
    notes.append(paragraph(texts.nothing));
  }
  if (skipped.length) {
    const list = document.createElement("ul");
    list.append(...skipped.map(item));
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
    show({ text: "", changes: [], skipped: [] });
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
