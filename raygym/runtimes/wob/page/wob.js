// Plays one of MiniWoB's tasks in a frame, for the task at the other end of window.raygymReport:
// loads its page anew for each episode, starts it from a seed, and tells of its instruction and
// its end. In lock-step the frame has a pageClock, and nothing moves in it but by raygym.run().
"use strict";

window.raygym = (() => {
  const BEAT_MS = 500;
  const PROBE_CODE = "Backquote";
  const SETTLING_TICKS = 5, SETTLING_MS = 20, TICKS_A_FRAME = 4;
  const READY_TIMEOUT_MS = 5000;
  const PICTURE_TRIES = 1000, PICTURE_PAUSE_MS = 2;
  const EDITING_KEYS = new Set(["a", "c", "v", "x", "z"]);
  const isLockstep = location.search === "?lockstep";
  // The list of a <select> is a window of its own that no picture of the page has: let the page
  // paint it. What moves by style alone, and the text cursor, follow no clock.
  const STYLE = `
    select:not([multiple]):not([size]) { min-block-size: 0; min-inline-size: 0; padding: 1px 3px; gap: 2px; }
    select:not([multiple]):not([size]), ::picker(select) { appearance: base-select; font-size: 10px; }
    select:not([multiple]):not([size]) option { min-block-size: 0; padding: 0 2px; gap: 2px; }
    ${isLockstep ? "*, *::before, *::after { transition: none !important; animation: none !important; " +
      "caret-color: transparent !important; scroll-behavior: auto !important; }" : ""}`;

  let order = null, task = null, episode = null, complaints = [], told = [];
  let lastBeatMs = -BEAT_MS, lastPaintMs = 0;

  let send = message => window.raygymReport(JSON.stringify(message));
  const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

  // ---- The task's document ------------------------------------------------------------

  function randomOf(seed) {  // mulberry32
    let state = seed | 0;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ state >>> 15, 1 | state);
      mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
      return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
    };
  }

  // Called by a task's document before any script of its own.
  function opened(frame) {
    task = frame;
    if (task.pageClock) task.pageClock.stop(order.seed);
    else task.Math.random = randomOf(order.seed);
    task.open = () => null;
    task.alert = task.confirm = task.prompt = () => undefined;
    task.addEventListener("error", event => complaints.push(String(event.message)));
    task.addEventListener("unhandledrejection", event => complaints.push(String(event.reason)));
    task.console.error = (...said) => complaints.push(said.map(String).join(" "));
    watchInput(task);
    watchClipboard(task);
  }

  // What an episode before has copied is not there in this one.
  function watchClipboard(place) {
    let hasCopied = false;
    const selected = () => {
      const {value, selectionStart, selectionEnd} = place.document.activeElement ?? {};
      return value?.slice(selectionStart, selectionEnd) || place.getSelection().toString();
    };
    for (const type of ["copy", "cut"])
      place.addEventListener(type, () => hasCopied ||= selected() !== "", true);
    place.addEventListener("paste", event => {
      if (hasCopied) return;
      event.stopImmediatePropagation();
      event.preventDefault();
    }, true);
  }

  function watchInput(place) {
    for (const type of ["keydown", "keyup"]) place.addEventListener(type, onKey, true);
    if (!isLockstep)
      for (const type of ["mousedown", "mouseup", "mousemove"])
        place.addEventListener(type, event => event.isTrusted && clockStrip.sawInput(), true);
    // Else the browser's own drag and drop takes the pointer away from the page.
    place.addEventListener("dragstart", event => event.preventDefault(), true);
    place.addEventListener("contextmenu", event => event.preventDefault(), true);
    place.addEventListener("wheel", event => event.ctrlKey && event.preventDefault(),
                           {capture: true, passive: false});
  }

  function onKey(event) {
    if (!event.isTrusted) return;
    if (!isLockstep) {
      clockStrip.sawInput();
      if (event.code === PROBE_CODE) {
        event.stopImmediatePropagation();
        event.preventDefault();
        return;
      }
    }
    const isShortcut = (event.ctrlKey && !EDITING_KEYS.has(event.key.toLowerCase())) ||
      event.altKey || event.metaKey;
    if (isShortcut || /^F\d+$/.test(event.key)) event.preventDefault();
  }

  async function load() {
    const frame = document.getElementById("task");
    await new Promise(resolve => {
      frame.addEventListener("load", resolve, {once: true});
      frame.src = order.page;
    });
    const style = task.document.createElement("style");
    style.textContent = STYLE;
    task.document.head.append(style);
    if (task.pageClock) await loadPictures();
    // jQuery calls back what waits for the page a moment after it is there.
    if (task.pageClock) tick(SETTLING_TICKS, SETTLING_MS);
    else await pause(SETTLING_MS);
    task.focus();
  }

  // A picture that comes into sight later must be there at once: each that a style names is
  // loaded now, by a style too, as the page keeps apart what it was asked for by others.
  async function loadPictures() {
    const addresses = new Set();
    for (const sheet of task.document.styleSheets)
      for (const rule of sheet.cssRules)
        for (const [, , address] of rule.cssText.matchAll(/url\((["']?)(.*?)\1\)/g))
          addresses.add(new URL(address, sheet.href ?? task.location.href).href);
    const shelf = task.document.createElement("div");
    shelf.style.cssText = "position: absolute; width: 0; height: 0; overflow: hidden";
    for (const address of addresses) {
      const holder = task.document.createElement("div");
      holder.style.content = `url("${address}")`;
      shelf.append(holder);
    }
    task.document.documentElement.append(shelf);
    shelf.getBoundingClientRect();  // has the styles looked at
    const isThere = address => !address.startsWith("http") ||
      task.performance.getEntriesByName(address).some(entry => entry.initiatorType === "css");
    for (let tries = PICTURE_TRIES; tries > 0 && ![...addresses].every(isThere); tries--)
      await pause(PICTURE_PAUSE_MS);
  }

  function tick(count, ms) {
    for (let i = 0; i < count; i++) task.pageClock.tick(ms);
  }

  // ---- Episodes -----------------------------------------------------------------------

  function instruction() {
    const said = task.core.getUtterance();
    return String(said?.utterance ?? said).replace(/\s+/g, " ").trim();
  }

  function watchEnd() {
    const core = task.core, end = core.endEpisode;
    core.endEpisode = (...given) => {
      const before = task.WOB_EPISODE_ID;
      end.apply(core, given);
      if (task.WOB_EPISODE_ID !== before && episode !== null) finish();
    };
  }

  function finish() {
    const reward = Number(task.WOB_REWARD_GLOBAL) || 0;
    const info = {raw_reward: Number(task.WOB_RAW_REWARD_GLOBAL) || 0};
    if (task.WOB_REWARD_REASON) info.reason = String(task.WOB_REWARD_REASON);
    tell(reward, true, info, {info: `done! reward=${reward}`});
    episode = null;
  }

  function tell(reward, isOver, info, text) {
    send({kind: "frame", episode, at_s: Date.now() / 1000, reward, is_over: isOver,
          is_time_up: false, state: null, info, text});
  }

  async function play(next) {
    const startedAtMs = performance.now();
    [episode, order, complaints, told] = [null, next, [], []];
    scrollbars.release();
    document.getElementById("title").textContent = next.title;
    document.getElementById("env-id").textContent = next.env_id;
    await load();
    if (task.pageClock) task.pageClock.begin(next.seed);
    task.Math.seedrandom(String(next.seed));
    watchEnd();
    episode = next.episode;
    task.core.startEpisodeReal();
    for (let ms = 0; !task.WOB_TASK_READY && ms < READY_TIMEOUT_MS; ms += SETTLING_MS)
      await pause(SETTLING_MS);
    const said = instruction();
    tell(0, false, {instruction: said}, {instruction: said});
    return {took_ms: performance.now() - startedAtMs, is_reloaded: true};
  }

  // Lets that many frames pass, or fewer where the episode ends; returns what they brought.
  async function run(frames) {
    for (let left = frames; left > 0 && episode !== null; left--)
      tick(TICKS_A_FRAME, 1000 / order.fps / TICKS_A_FRAME);
    const coming = [...task.document.images].filter(image => !image.complete);
    if (coming.length > 0) await Promise.all(coming.map(it => it.decode().catch(() => {})));
    const brought = {told, complaints};
    [told, complaints] = [[], []];
    return brought;
  }

  function onAnimationFrame(nowMs) {
    if (!isLockstep || lastBeatMs < 0) requestAnimationFrame(onAnimationFrame);
    if (nowMs - lastPaintMs > 1000 / (order?.fps ?? 1) - 8) {
      lastPaintMs = nowMs;
      clockStrip.paint();
    }
    if (nowMs - lastBeatMs > BEAT_MS && window.raygymReport) {
      lastBeatMs = nowMs;
      window.raygymReport(JSON.stringify({kind: "beat"}));
    }
  }

  addEventListener("DOMContentLoaded", () => {
    watchInput(window);
    // What is beside the task takes no focus from it.
    addEventListener("mousedown", event => event.preventDefault());
    if (isLockstep) {
      send = message => told.push(message);
      for (const id of ["strip", "strip-label"]) document.getElementById(id).hidden = true;
    }
    clockStrip.open(document.getElementById("strip"));
    requestAnimationFrame(onAnimationFrame);
  });

  // In lock-step, asked before the pointer does something: whether that was for a scrollbar.
  function takes(kind, x, y) {
    if (kind === "mousePressed") return scrollbars.grab(task.document, x, y);
    return kind === "mouseReleased" ? scrollbars.release() : scrollbars.drag(x, y);
  }

  return {opened, play, run, takes};
})();
