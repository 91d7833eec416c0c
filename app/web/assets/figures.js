// The live figures: asks /figures while somebody looks, and writes what came into the section
// that the server has rendered. app/web/readout.py writes the first state, in the same words.

const section = document.getElementById("figures");
const texts = JSON.parse(section.dataset.texts);
const address = `${document.documentElement.dataset.root}figures`;
const language = document.documentElement.lang;

const BUSY = 1000;
const IDLE = 2000;
const LONGEST_PAUSE = 30_000;
const PATIENCE = 8000;
const MOST_DOWNLOADS = 8;
const MOST_BUDGETS = 4;
const DIGITS = 12;
// Faults of the cache that have a text of their own.
const FAULTS = ["no_space", "min_free", "max_size", "read_only", "permission"];
// Assistive technology reads a name anew when it changes: not each second.
const NAMED_EVERY = 15_000;

// Texts and amounts

function say(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const grouped = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(language, { style: "percent" });
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

const number = (count) => grouped.format(count);

function size(count) {
  let unit = 0;
  while (count >= 999.5 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${(unit && count < 9.95 ? exact : grouped).format(count)} ${UNITS[unit]}`;
}

function time(seconds) {
  if (seconds < 120) return say("seconds", { count: Math.round(seconds) });
  if (seconds < 7200) return say("minutes", { count: Math.round(seconds / 60) });
  return say("hours", { count: Math.round(seconds / 3600) });
}

const rate = (amount) => say("rate", { amount });
const few = (count) => (count && count < 9.95 ? exact : grouped).format(count);

// What stands in the page

const part = (name, within = section) => within.querySelector(`[data-part="${name}"]`);

function write(element, text) {
  // What has not changed is left alone: a selection stays, and nothing is laid out anew.
  if (element.textContent !== text) element.textContent = text;
}

function made(name) {
  return document.getElementById(`figures-${name}`).content.firstElementChild.cloneNode(true);
}

// Let a list have so many children, the last ones new or gone.
function fit(list, count, name) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(made(name));
  return [...list.children];
}

// Plots

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;

const sum = (values) => values.reduce((all, one) => all + one, 0);
const mean = (values) => sum(values) / values.length;
const latest = (values) => mean(values.slice(-5));

// Each one: its series, the least that fills its height, and what it says of them.
const PLOTS = {
  down: {
    lines: ["bytes_sent"], least: 1000, value: ([bytes]) => rate(size(latest(bytes))), write: (peak) => rate(size(peak)),
  },
  up: {
    lines: ["bytes_received"], least: 1000, value: ([bytes]) => rate(size(latest(bytes))), write: (peak) => rate(size(peak)),
  },
  requests: {
    lines: ["requests"], least: 2, value: ([count]) => rate(few(latest(count))), write: (peak) => rate(number(peak)),
  },
  results: {
    lines: ["hits", "misses"], least: 2, legend: ["hits", "misses"],
  },
  errors: {
    lines: ["errors"], least: 2, value: ([count]) => number(sum(count)),
  },
};

function points(values, most) {
  const step = 119 / (values.length - 1);
  return values
    .map((value, place) => `${(place * step).toFixed(1)},${(HEIGHT - 1 - (value / most) * (HEIGHT - 3)).toFixed(1)}`)
    .join(" ");
}

function shape(kind, name, corners) {
  const drawn = document.createElementNS(SVG, kind);
  drawn.setAttribute("class", `figures-${kind} of-${name}`);
  drawn.setAttribute("points", corners);
  return drawn;
}

function legend(names, rows) {
  return names.map((name, place) => {
    const entry = document.createElement("span");
    entry.className = `figures-key of-${name}`;
    entry.textContent = say(name, { count: number(sum(rows[place])) });
    return entry;
  });
}

function draw(figure, plot, series, naming) {
  const rows = plot.lines.map((line) => series[line]);
  const peak = Math.max(...rows.flat());
  const most = Math.max(peak, plot.least);
  const drawing = part("drawing", figure);
  const label = figure.querySelector("figcaption").textContent;
  const lines = rows.map((row, place) => shape("polyline", plot.lines[place], points(row, most)));
  const area = shape("polygon", plot.lines[0], `0,${HEIGHT} ${points(rows[0], most)} 119,${HEIGHT}`);
  drawing.replaceChildren(area, ...lines);
  const value = part("value", figure);
  if (plot.legend) {
    value.replaceChildren(...legend(plot.legend, rows));
  } else {
    write(value, plot.value(rows));
  }
  if (plot.write) write(part("peak", figure), peak ? say("peak", { amount: plot.write(peak) }) : "");
  figure.classList.toggle("is-still", peak === 0);
  if (naming) {
    const amount = plot.legend ? [...value.children].map((one) => one.textContent).join(", ") : value.textContent;
    const key = plot.write ? "plot" : "plot_sum";
    drawing.setAttribute("aria-label", say(key, { label, amount, peak: plot.write?.(peak) }));
  }
}

let named = 0;

function drawAll(series) {
  const naming = performance.now() - named > NAMED_EVERY || named === 0;
  if (naming) named = performance.now();
  part("plots").hidden = false;
  for (const figure of section.querySelectorAll("[data-plot]")) {
    draw(figure, PLOTS[figure.dataset.plot], series, naming);
  }
}

// Registries

function stateOf(registry) {
  if (registry.circuit_open) return "alone";
  if (registry.reachable === null) return "unknown";
  return registry.reachable ? "answers" : "silent";
}

function left(key, budget) {
  return say(key, {
    remaining: number(budget.remaining),
    limit: number(budget.limit),
    time: time(budget.window),
  });
}

function writeBudget(entry, budget) {
  const whose = budget.kind === "account" ? "account" : "anonymous";
  const name = budget.identity.split("-")[1];
  entry.classList.toggle("is-low", budget.low);
  write(part("says", entry), left("window", budget));
  write(part("whose", entry), `${say(whose, { name })} · ${say("heard", { time: time(budget.seconds_ago) })}`);
  const meter = part("meter", entry);
  meter.max = budget.limit;
  meter.low = Math.floor(budget.limit / 10);
  meter.value = budget.remaining;
}

function writeRow(row, registry, budgets) {
  const ago = registry.seconds_ago;
  row.dataset.state = stateOf(registry);
  write(part("says", row), say(stateOf(registry)));
  write(part("heard", row), ago === null ? "" : say("heard", { time: time(ago) }));
  const entries = fit(part("budgets", row), budgets.length, "budget");
  entries.forEach((entry, place) => writeBudget(entry, budgets[place]));
}

// In the head of the page, which is page.html's.
function writeChip(chip, registry, budgets) {
  chip.dataset.state = stateOf(registry);
  write(chip.querySelector('[data-chip="says"]'), say(stateOf(registry)));
  write(chip.querySelector('[data-chip="pulls"]'), budgets.length ? left("chip_pulls", budgets[0]) : "");
}

function scarce(budgets) {
  const part = ({ remaining, limit }) => remaining / Math.max(limit, 1);
  return [...budgets].sort((one, two) => part(one) - part(two)).slice(0, MOST_BUDGETS);
}

function writeRegistries(registries) {
  for (const registry of registries) {
    const name = CSS.escape(registry.name);
    const budgets = scarce(registry.rate_limits);
    for (const row of section.querySelectorAll(`[data-registry="${name}"]`)) writeRow(row, registry, budgets);
    for (const chip of document.querySelectorAll(`.chips [data-registry="${name}"]`)) writeChip(chip, registry, budgets);
  }
}

// Downloads

// By what tells one from another: when it was last seen, how far it was, how fast, and where.
let seen = new Map();

function identity(download, taken) {
  const parts = [download.registry, download.repository, download.reference, download.started_at];
  let key = parts.join(" ");
  while (taken.has(key)) key += "+";
  return key;
}

function pace(download, before, now) {
  if (!before || now <= before.now) return before?.speed ?? download.bytes / Math.max(download.seconds, 0.5);
  const fresh = (download.bytes - before.bytes) / (now - before.now);
  return 0.6 * before.speed + 0.4 * fresh;
}

function shortened(reference) {
  const [algorithm, digits] = reference.split(":");
  return digits ? `${algorithm}:${digits.slice(0, DIGITS)}` : reference;
}

function writeDownload(entry, download, speed) {
  const { bytes, total } = download;
  const name = `${download.registry}/${download.repository}`;
  const bar = part("bar", entry);
  const told = [
    total === null ? size(bytes) : say("of", { sent: size(bytes), total: size(total) }),
    rate(size(speed)),
    total !== null && speed > 0 ? say("left", { time: time((total - bytes) / speed) }) : "",
    download.cache ? say(download.cache) : "",
  ];
  write(part("name", entry), name);
  write(part("reference", entry), shortened(download.reference));
  write(part("says", entry), told.filter(Boolean).join(" · "));
  bar.setAttribute("aria-label", name);
  if (total === null) {
    bar.removeAttribute("value");
  } else {
    bar.max = total || 1;
    bar.value = bytes;
  }
}

function writeDownloads(downloads, now) {
  const list = part("downloads");
  const next = new Map();
  for (const download of downloads) {
    const key = identity(download, next);
    const before = seen.get(key);
    next.set(key, { now, bytes: download.bytes, speed: pace(download, before, now), entry: before?.entry });
  }
  const shown = [...next.values()].slice(0, MOST_DOWNLOADS);
  shown.forEach((one, place) => {
    one.entry ??= made("download");
    writeDownload(one.entry, downloads[place], one.speed);
    if (list.children[place] !== one.entry) list.insertBefore(one.entry, list.children[place] ?? null);
  });
  while (list.children.length > shown.length) list.lastElementChild.remove();
  seen = next;
  const more = downloads.length - shown.length;
  write(part("more"), more > 0 ? say("more", { count: number(more) }) : "");
  part("none").hidden = downloads.length > 0;
}

// Sums

function writeFact(key, text) {
  write(section.querySelector(`[data-fact="${key}"]`), text);
}

let told = { fault: null, at: 0 };

// Read aloud when it changes: not again and again because the disk goes on filling.
function writeFault({ error: fault, free, min_free: least }) {
  if (fault === told.fault && performance.now() - told.at < NAMED_EVERY) return;
  told = { fault, at: performance.now() };
  const key = `fault_${FAULTS.includes(fault) ? fault : "io"}`;
  write(part("fault"), fault ? say(key, { free: size(free), least: size(least) }) : "");
  part("fault").hidden = !fault;
}

function writeSums({ totals, cache }) {
  for (const [key, count] of Object.entries(totals)) {
    writeFact(key, key.startsWith("bytes_") ? size(count) : number(count));
  }
  if (cache === null) return;
  const given = cache.hits + cache.revalidated + cache.collapsed + cache.stale;
  const asked = given + cache.misses;
  const kept = size(cache.size);
  writeFact("kept", cache.max_size === null ? kept : say("of", { sent: kept, total: size(cache.max_size) }));
  writeFact("entries", number(cache.entries));
  writeFact("share", asked ? percent.format(given / asked) : "-");
  writeFact("saved", size(cache.bytes_saved));
  writeFact("evictions", number(cache.evictions));
  writeFact("fetches", number(cache.fetch_connections));
  writeFault(cache);
}

// Asking

let paused = false;
let failures = 0;
let timer = 0;
let asking = null;

function show(state, text) {
  section.dataset.state = state;
  write(part("status"), text);
}

function apply(figures) {
  drawAll(figures.series);
  writeRegistries(figures.registries);
  writeDownloads(figures.downloads, figures.time);
  writeSums(figures);
  show("live", say("live"));
}

function later(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(ask, milliseconds);
}

function stop() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
}

async function fetched(signal) {
  const answer = await fetch(address, { signal, headers: { Accept: "application/json" } });
  if (answer.status === 403 || answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}

async function ask() {
  const own = new AbortController();
  const patience = setTimeout(() => own.abort(), PATIENCE);
  asking = own;
  try {
    const figures = await fetched(own.signal);
    if (asking !== own) return;
    failures = 0;
    if (figures === null) {
      show("refused", say("refused"));
      part("pause").hidden = true;
      return;
    }
    apply(figures);
    later(figures.downloads.length ? BUSY : IDLE);
  } catch {
    if (asking !== own) return;
    const pause = Math.min(IDLE * 2 ** failures, LONGEST_PAUSE);
    failures += 1;
    show("lost", say("lost", { time: time(pause / 1000) }));
    later(pause);
  } finally {
    clearTimeout(patience);
  }
}

function goOn() {
  stop();
  if (paused || document.hidden || section.dataset.state === "refused") return;
  ask();
}

part("pause").addEventListener("click", () => {
  paused = !paused;
  write(part("pause"), say(paused ? "resume" : "pause"));
  if (paused) show("paused", say("paused"));
  goOn();
});
document.addEventListener("visibilitychange", goOn);
part("pause").hidden = false;
goOn();
