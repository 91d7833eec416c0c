// Docker Hub is searched, and the tags of an image are listed, by the proxy.

const form = document.querySelector(".find");
const texts = JSON.parse(form.dataset.texts);
const words = document.getElementById("words");
const status = document.getElementById("found-status");
const found = document.getElementById("found");
const copyButton = document.querySelector(".copy");
const { root } = document.documentElement.dataset;
const numbers = new Intl.NumberFormat(document.documentElement.lang);
const MOST_TAGS = 300;

// With a registry in front it is the name of an image, and no words to look for.
const NAME = /^[^\s/]+[.:][^\s/]*\/\S+$/;

let asking = new AbortController();
let last = 0;

/** Make an element with attributes and children. */
function made(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

class Refused extends Error {}

function reason(answer, errors) {
  const { code, message, detail } = errors?.[0] ?? {};
  if (code === "NAME_INVALID") {
    return texts.invalid;
  }
  if (detail?.rule) {
    return filled(texts.denied, { message });
  }
  if (answer.status === 401) {
    return texts.login; // what a registry wants is 403 here
  }
  if (answer.status === 404 || answer.status === 403) {
    const served = !message?.includes("does not serve that registry");
    return served ? texts.unknown : texts["not-served"];
  }
  return answer.status === 429 ? texts.limited : texts.away;
}

async function asked(path, query) {
  asking.abort();
  asking = new AbortController();
  status.textContent = texts.waiting;
  const answer = await fetch(`${root}${path}?${new URLSearchParams(query)}`, {
    signal: asking.signal,
  });
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Refused(reason(answer, document.errors));
  }
  return document;
}

async function shown(showing) {
  try {
    await showing();
  } catch (error) {
    if (error.name !== "AbortError") {
      status.textContent = error instanceof Refused ? error.message : texts.failed;
    }
  }
}

function copyOf(id, what) {
  const button = copyButton.cloneNode(true);
  button.dataset.copy = id;
  button.setAttribute("aria-label", `${texts.copy}: ${what}`);
  return button;
}

/** Give the tags of an image, and the command that pulls the one that is chosen. */
function tagsOf({ image, address, tags, more }) {
  last += 1;
  const id = `pull-${last}`;
  const code = made("code", {});
  const choose = (tag, button) => {
    code.textContent = `docker pull ${address ?? image}:${tag}`;
    for (const other of list.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  };
  const list = made("ul", { class: "tags" });
  for (const tag of tags.slice(0, MOST_TAGS)) {
    const button = made("button", { type: "button", "aria-pressed": "false" }, tag);
    button.addEventListener("click", () => choose(tag, button));
    list.append(made("li", {}, button));
  }
  const title = made("h3", {}, filled(texts["tags-of"], { image }));
  if (!tags.length) {
    return made("div", { class: "found-tags" }, title, made("p", {}, texts["no-tags"]));
  }
  choose(tags[0], list.querySelector("button"));
  const pull = made(
    "div",
    { class: "block" },
    made("div", { class: "block-head" },
      made("span", { class: "place" }, texts.pull), copyOf(id, texts.pull)),
    made("pre", { id, class: "terminal", tabindex: "0", role: "group", "aria-label": texts.pull }, code),
  );
  const rest = more || tags.length > MOST_TAGS ? [made("p", {}, texts.more)] : [];
  return made("div", { class: "found-tags" }, title, pull, list, ...rest);
}

async function showTags(image, place) {
  const told = await asked("page/tags", { image });
  place.replaceChildren(tagsOf(told));
  status.textContent = filled(texts.tags, { count: numbers.format(told.tags.length) });
}

function result({ name, description, star_count: stars, is_official: official }) {
  const tags = made("div", {});
  const button = made(
    "button",
    { type: "button", class: "button quiet", "aria-label": filled(texts["tags-of"], { image: name }) },
    texts["show-tags"],
  );
  button.addEventListener("click", () => shown(() => showTags(name, tags)));
  const badge = official ? [made("span", { class: "tag" }, texts.official)] : [];
  return made(
    "li",
    {},
    made(
      "div",
      { class: "result" },
      made("div", {}, made("code", {}, name), ...badge, made("p", {}, description ?? "")),
      made("span", { class: "stars" }, `${texts.stars} ${numbers.format(stars ?? 0)}`),
      button,
    ),
    tags,
  );
}

async function search(text) {
  const told = await asked("v1/search", { q: text, n: 25 });
  const results = told.results ?? [];
  found.replaceChildren(made("ul", { class: "results" }, ...results.map(result)));
  status.textContent = results.length
    ? filled(texts.results, { count: numbers.format(told.num_results ?? results.length) })
    : texts.none;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value.trim();
  if (!text) {
    return;
  }
  found.replaceChildren();
  const tags = event.submitter?.value === "tags" || NAME.test(text) || !("searched" in form.dataset);
  shown(() => (tags ? showTags(text, found) : search(text)));
});
