// Plays one Flash game for the task at the other end of window.raygymReport: loads it, starts
// its episodes, turns its score into rewards, and says each half second that it is alive.
"use strict";

const raygym = (() => {
  const BEAT_MS = 500;
  const OVERTIME_S = 0.5;
  const SETTLING_FRAMES = 3;
  const SOUND_LATENCY_S = 0.3;
  const PROBE_CODE = "Backquote";
  // SWF 6, 1x1 px, one frame of nothing.
  const EMPTY_SWF = Uint8Array.of(
    70, 87, 83, 6, 20, 0, 0, 0, 48, 10, 0, 160, 0, 25, 1, 0, 64, 0, 0, 0);
  const KEYS = {
    space: [" ", "Space"], enter: ["Enter", "Enter"], return: ["Enter", "Enter"],
    esc: ["Escape", "Escape"], tab: ["Tab", "Tab"], shift: ["Shift", "ShiftLeft"],
    ctrl: ["Control", "ControlLeft"], alt: ["Alt", "AltLeft"], bsp: ["Backspace", "Backspace"],
    left: ["ArrowLeft", "ArrowLeft"], right: ["ArrowRight", "ArrowRight"],
    up: ["ArrowUp", "ArrowUp"], down: ["ArrowDown", "ArrowDown"],
  };
  const CAPS = {ArrowLeft: "\u2190", ArrowRight: "\u2192", ArrowUp: "\u2191", ArrowDown: "\u2193"};

  const held = new Map();   // keys that the game believes are down: identity -> event fields
  let game = null, player = null, episode = null;
  let isWarm = null, frames = 0, unseen = 0, lastPaintMs = 0, lastBeatMs = -BEAT_MS, isReportDue = false;

  window.RufflePlayer = {config: {
    publicPath: "../ruffle/", autoplay: "on", unmuteOverlay: "hidden", splashScreen: false,
    preloader: false, contextMenu: "off", showSwfDownload: false, allowScriptAccess: true,
    preferredRenderer: "canvas", quality: "high", letterbox: "off", logLevel: "error",
    warnOnUnsupportedContent: false, openUrlMode: "deny", polyfills: false,
  }};

  // Nobody listens and nobody plugs in a gamepad: long sound buffers and no polling cost least.
  window.AudioContext = class extends window.AudioContext {
    constructor(options) {
      super({...options, latencyHint: SOUND_LATENCY_S});
    }
  };
  navigator.getGamepads = () => [];

  let send = message => window.raygymReport(JSON.stringify(message));
  const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
  const nextFrame = () => new Promise(resolve => requestAnimationFrame(resolve));

  async function until(isTrue) {
    while (!isTrue()) await nextFrame();
  }

  function paint() {
    clockStrip.paint();
    lastPaintMs = performance.now();
  }

  // ---- Input --------------------------------------------------------------------------

  function swallow(event) {
    event.stopImmediatePropagation();
    event.preventDefault();
  }

  function onKey(event) {
    if (!event.isTrusted) return;
    const name = event.code || event.key;
    if (event.repeat) {
      if (!held.has(name)) swallow(event);  // held since before the reset: forgotten
      return;
    }
    clockStrip.sawInput();
    if (event.code === PROBE_CODE) return swallow(event);
    if (event.type === "keydown") held.set(name, {key: event.key, code: event.code});
    else held.delete(name);
    const isShortcut = event.ctrlKey || event.altKey || event.metaKey;
    if (isShortcut || event.key === "Tab" || /^F\d+$/.test(event.key)) event.preventDefault();
  }

  function press(type, fields) {
    player?.dispatchEvent(new KeyboardEvent(type, {...fields, bubbles: true, composed: true}));
  }

  function releaseKeys() {
    for (const fields of held.values()) press("keyup", fields);
    held.clear();
  }

  function keyFields(name) {
    const isLetter = /^[a-z]$/i.test(name), isDigit = /^\d$/.test(name);
    const [key, code] = KEYS[name] ??
      [name, isLetter ? "Key" + name.toUpperCase() : isDigit ? "Digit" + name : name];
    return {key, code};
  }

  async function pressOnce(name) {
    for (const [type, waitMs] of [["keydown", 100], ["keyup", 300]]) {
      press(type, keyFields(name));
      await pause(waitMs);
    }
  }

  function watchInput() {
    for (const type of ["keydown", "keyup"]) addEventListener(type, onKey, true);
    for (const type of ["mousedown", "mouseup", "mousemove"])
      addEventListener(type, event => event.isTrusted && clockStrip.sawInput(), true);
    addEventListener("contextmenu", event => event.preventDefault(), true);
    addEventListener("wheel", event => event.ctrlKey && event.preventDefault(),
                     {capture: true, passive: false});
    addEventListener("mousedown", event => player?.contains(event.target) || event.preventDefault());
    addEventListener("focusout", () => queueMicrotask(() => player?.focus()));
  }

  // ---- Score --------------------------------------------------------------------------

  // A third argument is the frame's number: such a game promises to call once a frame.
  // Answers whether another frame follows before anybody looks at this one.
  function onCall(score, isOver, frame) {
    if (typeof frame === "number") frames++;
    paint();
    if (episode) {
      note(score, isOver);
      scheduleReport();
    }
    return unseen-- > 0;
  }

  function note(score, isOver) {
    const value = Number(score);
    if (score !== undefined && Number.isFinite(value)) {
      episode.score ??= value;
      episode.reward += value - episode.score;
      episode.score = value;
    }
    episode.isOver ||= isOver === true || isOver === 1;
  }

  // The player cannot be asked while it calls us; it can as soon as the call has returned.
  function scheduleReport() {
    if (isReportDue) return;
    isReportDue = true;
    queueMicrotask(() => {
      isReportDue = false;
      if (episode) report();
    });
  }

  function ask(name, fallback) {
    if (!name || typeof player?.[name] !== "function") return fallback;
    try {
      return player[name]() ?? fallback;
    } catch {
      return fallback;
    }
  }

  function report() {
    if (game.score.source === "poll")
      note(ask(game.score.name), ask(game.score.over, false));
    const {id, reward, isOver} = episode;
    const isTimeUp = !isOver && playedS() > game.max_episode_s + OVERTIME_S;
    const state = ask(game.state, null);
    episode.reward = 0;
    if (isOver || isTimeUp) episode = null;
    send({kind: "frame", episode: id, at_s: Date.now() / 1000, reward, is_over: isOver,
          is_time_up: isTimeUp, state});
  }

  // In the game's own time where it counts its frames, else in real time.
  function playedS() {
    const realS = (performance.now() - episode.startedAtMs) / 1000;
    const ownS = frames / game.fps;
    return ownS > 0 && realS < 1.5 * game.max_episode_s + 5 ? ownS : realS;
  }

  // A game that counts its frames sets the pace of the strip; others are followed at their rate.
  function longestStillMs() {
    const periodMs = 1000 / (game?.fps ?? 25);
    if (frames > 0) return 1000;
    return game?.score.source === "call" ? 1.6 * periodMs : periodMs - 8;
  }

  function onAnimationFrame(nowMs) {
    requestAnimationFrame(onAnimationFrame);
    if (performance.now() - lastPaintMs > longestStillMs()) {
      paint();
      if (episode) scheduleReport();
    }
    if (nowMs - lastBeatMs > BEAT_MS && window.raygymReport) {
      lastBeatMs = nowMs;
      send({kind: "beat", frames});
    }
  }

  // ---- Games and episodes -------------------------------------------------------------

  function show(next) {
    const stage = document.getElementById("stage");
    stage.style.width = `${next.width}px`;
    stage.style.height = `${next.height}px`;
    document.getElementById("title").textContent = next.title;
    document.getElementById("env-id").textContent = next.env_id;
    const list = document.getElementById("key-list"), panel = document.getElementById("keys");
    list.replaceChildren(...next.keys.map(name => {
      const item = document.createElement("li"), cap = document.createElement("kbd");
      cap.textContent = CAPS[name] ?? name;
      item.append(cap);
      return item;
    }));
    panel.style.left = `${18 + next.width + 26}px`;
    panel.hidden = next.width > 860 || next.keys.length === 0;
  }

  // Loads the player itself, with an empty file, before anybody asks for a game.
  async function warmUp() {
    await until(() => window.RufflePlayer.newest);
    const idle = window.RufflePlayer.newest().createPlayer();
    document.getElementById("stage").append(idle);
    await idle.ruffle().load({data: EMPTY_SWF}).catch(() => {});
  }

  async function load(next) {
    await isWarm;
    player?.remove();
    player = game = null;
    held.clear();
    show(next);
    const fresh = window.RufflePlayer.newest().createPlayer();
    fresh.setAttribute("tabindex", "0");
    const paintedAt = 1 / (next.paint_divisor ?? 1);
    fresh.style.width = `${next.width * paintedAt}px`;
    fresh.style.height = `${next.height * paintedAt}px`;
    document.getElementById("stage").replaceChildren(fresh);
    listen(next.score);
    const isLoaded = new Promise(resolve =>
      fresh.addEventListener("loadeddata", resolve, {once: true}));
    await fresh.ruffle().load({url: next.swf, allowScriptAccess: true});
    await isLoaded;
    // That the file has come does not mean that its first frames have run.
    if (next.reset) await until(() => typeof fresh[next.reset] === "function");
    else await pause(SETTLING_FRAMES * 1000 / next.fps);
    player = fresh;
    player.focus();  // not before: Ruffle notices only what happens once it has loaded
    for (const name of next.start_keys) await pressOnce(name);
  }

  function listen(score) {
    if (score.source !== "call") return;
    const path = score.name.split("."), last = path.pop();
    path.reduce((place, name) => place[name] ??= {}, window)[last] = onCall;
  }

  // Whether an episode can begin without loading the game.
  function isReady(next) {
    return game?.swf === next.swf && game.paint_divisor === next.paint_divisor && next.reset !== "";
  }

  async function play(next) {
    const startedAtMs = performance.now();
    episode = null;
    releaseKeys();
    const isLoaded = isReady(next);
    if (!isLoaded) await load(next);
    game = next;
    if (next.reset) player[next.reset](next.seed);
    player.focus();
    frames = 0;
    lastPaintMs = performance.now();
    const score = next.score.source === "poll" ? ask(next.score.name, null) : 0;
    episode = {id: next.episode, score, reward: 0, isOver: false, startedAtMs: performance.now()};
    return {took_ms: performance.now() - startedAtMs, is_reloaded: !isLoaded};
  }

  addEventListener("DOMContentLoaded", () => {
    clockStrip.open(document.getElementById("strip"));
    watchInput();
    isWarm = warmUp();
    requestAnimationFrame(onAnimationFrame);
  });

  return {
    play, press, keyFields,
    isWarm: () => isWarm,
    isReady,
    player: () => player,
    divert(listener) { send = listener; },
    expectUnseen(count) { unseen = count; },
  };
})();
