// The wall: tiles in order, what is in view, keys and tools.

import { Feed } from "./feed.js";
import { Look } from "./look.js";
import { saveTiles } from "./picture.js";
import { Tile } from "./tile.js";
import { level, matches, ORDERS, shortName, what, why } from "./words.js";

const $ = (id) => document.getElementById(id);
const SIZES = [["tiny", 8], ["small", 10.5], ["medium", 15], ["medium", 20], ["large", 28]];
const REORDER_MS = 4000, TICK_MS = 500, SAY_MS = 5000;

const tiles = new Map();
const about = { can_drive: false, has_novnc: false, install: "" };
const settings = { theme: "auto", size: 2, sort: "slot", ...JSON.parse(localStorage.getItem("raygym-wall") || "{}") };
const state = { view: "all", filter: "", run: "", here: null, problem: "", isOrderOld: true, ordered_ms: 0, isReady: false };
const spoken = { levels: new Map(), said_ms: 0 };
const counts = { messages: 0, pictures: 0, drawn_ms: 0 };

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = tiles.get(target.dataset.key);
    if (!tile || tile.isVisible === isIntersecting) continue;
    tile.isVisible = isIntersecting;
    tile.seen_ms = performance.now();
  }
  changed();
}, { rootMargin: "120px" });

const look = new Look({ about, tile: (key) => tiles.get(key), step, changed });
const feed = new Feed({ rows, pictures, gone, all, state: tell });

function rows(list) {
  for (const row of list) {
    let tile = tiles.get(row.key);
    if (!tile) {
      tile = new Tile(row.key);
      tiles.set(row.key, tile);
      seen.observe(tile.item);
      state.isOrderOld = true;
    }
    tile.take(row);
    announce(row);
  }
  if (list.length) count();
  if (state.isOrderOld) order();
}

async function pictures(list) {
  const start = performance.now();
  await Promise.all(list.map((picture) => {
    const tile = tiles.get(picture.key);
    return Promise.all([tile?.show(picture), look.picture(picture)]);
  }));
  counts.messages += 1;
  counts.pictures += list.length;
  counts.drawn_ms += performance.now() - start;
}

function gone(keys) {
  for (const key of keys) {
    const tile = tiles.get(key);
    if (!tile) continue;
    seen.unobserve(tile.item);
    tile.item.remove();
    tiles.delete(key);
    spoken.levels.delete(key);
  }
  if (keys.length) order();
}

function all(keys) {
  const there = new Set(keys);
  gone([...tiles.keys()].filter((key) => !there.has(key)));
  state.isReady = true;
  const key = decodeURIComponent(location.hash.slice(1));
  setTimeout(() => { if (tiles.has(key) && !look.isOpen) look.open(key); });
}

function tell(problem) {
  if (problem === state.problem) return;
  state.problem = problem;
  const since = new Date().toLocaleTimeString([], { hour12: false });
  $("notice").textContent = problem ? `${problem} Since ${since}.` : "";
  $("notice").hidden = !problem;
  document.body.classList.toggle("is-lost", Boolean(problem));
  order();
}

function announce(row) {
  const now = level(row), before = spoken.levels.get(row.key);
  spoken.levels.set(row.key, now);
  if (now !== "bad" || before === undefined || before === "bad") return;
  if (performance.now() - spoken.said_ms < SAY_MS) return;
  spoken.said_ms = performance.now();
  $("say").textContent = `Slot ${row.slot} is in trouble: ${what(row)}, ${why(row)}`;
}

const VIEWS = {
  all: () => true,
  playing: (tile) => ["ok", "warn"].includes(level(tile.row)),
  trouble: (tile) => ["bad", "warn"].includes(level(tile.row)),
  stale: (tile) => tile.isStale(),
};

function ofRun() {
  return [...tiles.values()].filter((tile) => tile.row && (!state.run || tile.row.run === state.run));
}

function count() {
  const there = ofRun();
  for (const button of document.querySelectorAll("[data-view]")) {
    const found = there.filter(VIEWS[button.dataset.view]);
    button.lastElementChild.textContent = found.length;
    const isAlarm = button.dataset.view === "trouble" && found.some((tile) => level(tile.row) === "bad");
    button.classList.toggle("alarm", isAlarm);
    button.classList.toggle("caution", !isAlarm && ["trouble", "stale"].includes(button.dataset.view) && found.length > 0);
  }
  const runs = [...new Set([...tiles.values()].map((tile) => tile.row.run))].sort();
  const names = [...new Set(there.map((tile) => shortName(tile.row)))].sort();
  const times = there.map((tile) => tile.row.reaction_ms).filter((time) => time !== null);
  const mean = times.length ? [`reaction ${Math.round(times.reduce((a, b) => a + b, 0) / times.length)} ms`] : [];
  $("about").textContent = [...mean, names.join(", ")].filter(Boolean).join(" · ");
  $("about").title = [...runs, ...names].join(", ");
  $("run").hidden = runs.length < 2;
  const known = [...$("run").options].slice(1).map((option) => option.value);
  if (String(known) !== String(runs)) {
    $("run").replaceChildren(new Option("All runs", ""), ...runs.map((run) => new Option(run, run)));
    $("run").value = runs.includes(state.run) ? state.run : (state.run = "");
  }
}

// Puts the tiles in order; what is focused stays so.
function order() {
  state.isOrderOld = false;
  state.ordered_ms = performance.now();
  const focused = document.activeElement?.closest("li")?.dataset.key;
  const shown = ofRun().filter((tile) => VIEWS[state.view](tile) && matches(tile.row, state.filter)).sort(ORDERS[settings.sort]);
  const items = shown.map((tile) => tile.item);
  const grid = $("grid");
  if (items.length !== grid.children.length || items.some((item, i) => item !== grid.children[i])) {
    grid.replaceChildren(...items);
    if (focused && tiles.has(focused) && !look.isOpen) tiles.get(focused).button.focus({ preventScroll: true });
  }
  if (!shown.some((tile) => tile.key === state.here)) rove(shown[0]?.key ?? null);
  empty(shown.length);
  count();
  changed();
}

function empty(found) {
  $("empty").hidden = found > 0 || !(state.isReady || state.problem);
  if (found) return;
  $("empty").innerHTML = tiles.size
    ? "<h2>No slot matches</h2><p>Change the filter, or show all.</p>"
    : "<h2>Nothing plays here yet</h2><p>Slots appear by themselves once a run with <code>raygym.train</code> or a <code>RolloutService</code> plays on this cluster.</p>";
}

function rove(key) {
  tiles.get(state.here)?.button.setAttribute("tabindex", "-1");
  state.here = key;
  tiles.get(key)?.button.setAttribute("tabindex", "0");
}

function step(key, by) {
  const keys = [...$("grid").children].map((item) => item.dataset.key);
  const at = keys.indexOf(key);
  return keys[(at + by + keys.length) % keys.length];
}

// Tells the server what is looked at; nothing is, while the page is hidden.
function changed() {
  if (changed.is_due) return;
  changed.is_due = true;
  setTimeout(() => {
    changed.is_due = false;
    const visible = document.hidden ? [] : [...tiles.values()].filter((tile) => tile.isVisible && tile.item.isConnected).map((tile) => tile.key);
    feed.want(visible, document.hidden ? null : look.large);
  }, 60);
}

function setTheme(theme) {
  settings.theme = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").title = `Light or dark: ${theme}  t`;
  keep();
}

function nextTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const [first, second] = isDark ? ["light", "dark"] : ["dark", "light"];
  setTheme({ auto: first, [first]: second, [second]: "auto" }[settings.theme]);
}

function setSize(size) {
  settings.size = Math.min(SIZES.length - 1, Math.max(0, size));
  const [name, width] = SIZES[settings.size];
  document.documentElement.dataset.size = name;
  document.documentElement.style.setProperty("--tile", `${width}rem`);
  keep();
}

function setSort(sort) {
  settings.sort = ORDERS[sort] ? sort : "slot";
  $("sort").value = settings.sort;
  keep();
  order();
}

function setView(view) {
  state.view = view;
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === view));
  order();
}

const keep = () => localStorage.setItem("raygym-wall", JSON.stringify(settings));

function save() {
  const shown = [...$("grid").children].map((item) => tiles.get(item.dataset.key));
  if (shown.length) saveTiles(shown, `raygym  ${$("about").textContent}  ${new Date().toLocaleString()}`);
}

function walk(event) {
  const items = [...$("grid").children];
  const at = items.findIndex((item) => item.dataset.key === state.here);
  const columns = items.filter((item) => item.offsetTop === items[0]?.offsetTop).length || 1;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: items.length - 1 - at }[event.key];
  const item = items[at + by];
  event.preventDefault();
  if (!item) return;
  rove(item.dataset.key);
  tiles.get(item.dataset.key).button.focus();
}

document.addEventListener("keydown", (event) => {
  if (look.isOpen || $("keys").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") { event.target.blur(); tiles.get(state.here)?.button.focus(); }
    return;
  }
  if (/^(Arrow|Home|End)/.test(event.key)) { walk(event); return; }
  const sort = Object.keys(ORDERS)[Number(event.key) - 1];
  const act = { "/": () => $("filter").select(), f: () => setView(state.view === "trouble" ? "all" : "trouble"),
    "+": () => setSize(settings.size + 1), "=": () => setSize(settings.size + 1), "-": () => setSize(settings.size - 1),
    p: save, t: nextTheme, "?": () => $("keys").showModal() }[event.key] || (sort && (() => setSort(sort)));
  if (!act) return;
  event.preventDefault();
  act();
});

$("grid").addEventListener("click", (event) => {
  const key = event.target.closest("li")?.dataset.key;
  if (key) { rove(key); look.open(key); }
});
$("grid").addEventListener("focusin", (event) => rove(event.target.closest("li").dataset.key));
for (const button of document.querySelectorAll("[data-view]")) button.onclick = () => setView(button.dataset.view);
$("filter").oninput = (event) => { state.filter = event.target.value.trim(); order(); };
$("sort").onchange = (event) => setSort(event.target.value);
$("run").onchange = (event) => { state.run = event.target.value; order(); };
$("smaller").onclick = () => setSize(settings.size - 1);
$("larger").onclick = () => setSize(settings.size + 1);
$("save").onclick = save;
$("theme").onclick = nextTheme;
$("help").onclick = () => $("keys").showModal();
document.addEventListener("visibilitychange", changed);

setInterval(() => {
  for (const tile of tiles.values()) if (tile.isVisible || tile.row.is_silent) tile.tick();
  look.tick();
  count();
  // Tiles that jump about while somebody points at them cannot be hit.
  const isBusy = $("grid").matches(":hover") && matchMedia("(hover: hover)").matches;
  if (!isBusy && !look.isOpen && performance.now() - state.ordered_ms > REORDER_MS) order();
}, TICK_MS);

setTheme(settings.theme);
setSize(settings.size);
$("sort").value = settings.sort;
fetch("/about").then((answer) => answer.json()).then((said) => { Object.assign(about, said); look.tick(); });
window.raygymWall = { tiles, counts, look };
