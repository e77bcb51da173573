// Plays a game in lock-step: each order that comes through a WebSocket begins an episode or is
// one step, and is answered with what it brought, and the picture. page.js does the rest, in the
// time of pageClock.
"use strict";

const clockStrip = {open() {}, paint() {}, sawInput() {}};  // a picture of no age

(() => {
  const MAX_FRAMES_A_TICK = 5;  // Ruffle drops what is beyond
  const EXACT = 2 ** 20;
  const LOADING_TICK_MS = 40;
  const FIRST_WORD_EVERY_MS = 5;
  const INPUTS = [
    "keydown", "keyup", "keypress", "pointerdown", "pointerup", "pointermove", "pointerover",
    "pointerout", "mousedown", "mouseup", "mousemove", "mouseover", "mouseout", "click",
    "dblclick", "auxclick", "contextmenu", "wheel", "touchstart", "touchmove", "touchend",
    "dragstart", "drop", "copy", "cut", "paste"];

  const held = new Map();
  let told = [], game = null, canvas = null, context = null, link = null;

  const nextTask = ms => new Promise(resolve => pageClock.real.wait(resolve, ms));

  // Ruffle runs one frame for each such period: never less than it takes, and a sum without
  // rounding.
  function periodMs() {
    return Math.ceil(1000 / game.fps * EXACT) / EXACT;
  }

  // Loading takes real time, and frames.
  async function pump(promise) {
    let isDone = false;
    const done = promise.finally(() => isDone = true);
    done.catch(() => {});
    while (!isDone) {
      await Promise.race([done, nextTask(pageClock.isFetching() ? 2 : 0)]);
      if (!isDone && !pageClock.isFetching()) pageClock.tick(game ? periodMs() : LOADING_TICK_MS);
    }
    return done;
  }

  async function begin(order) {
    hold([]);
    told = [];
    const isLoaded = game?.swf === order.swf && order.reset !== "";
    game = order;
    if (!isLoaded) {
      pageClock.stop(order.seed);
      await pump(raygym.play(order));
      canvas = raygym.player().shadowRoot.querySelector("canvas");
      context = canvas.getContext("2d");
    }
    if (order.reset) {
      pageClock.begin(order.seed);
      await raygym.play(order);
    } else {
      pageClock.run();
    }
    await run(1);
  }

  function hold(names) {
    for (const [name, fields] of held) {
      if (names.includes(name)) continue;
      raygym.press("keyup", fields);
      held.delete(name);
    }
    for (const name of names) {
      if (held.has(name)) continue;
      held.set(name, raygym.keyFields(name));
      raygym.press("keydown", held.get(name));
    }
  }

  async function run(frames) {
    for (let left = frames; left > 0 && !isOver(); left -= MAX_FRAMES_A_TICK) {
      pageClock.tick(Math.min(left, MAX_FRAMES_A_TICK) * periodMs());
      await null;  // the report of this tick was put off until now
    }
  }

  const isOver = () => told.some(frame => frame.is_over || frame.is_time_up);

  // What the first frame of an episode brought counts in the first step.
  function answer() {
    link.send(JSON.stringify({
      reward: told.reduce((sum, frame) => sum + frame.reward, 0),
      is_over: told.some(frame => frame.is_over),
      is_time_up: told.some(frame => frame.is_time_up),
      state: told.at(-1)?.state ?? null,
      size: [canvas.width, canvas.height],
    }));
    link.send(context.getImageData(0, 0, canvas.width, canvas.height).data);
  }

  async function obey(order) {
    try {
      if (order.kind === "begin") {
        await begin(order);
        answer();
      } else {
        hold(order.keys);
        await run(order.frames);
        answer();
        told = [];
      }
    } catch (error) {
      link.send(JSON.stringify({error: String(error?.stack ?? error)}));
    }
  }

  for (const type of INPUTS)
    addEventListener(type, event => {
      if (!event.isTrusted) return;
      event.stopImmediatePropagation();
      event.preventDefault();
    }, {capture: true, passive: false});

  addEventListener("DOMContentLoaded", async () => {
    raygym.divert(message => message.kind === "frame" && told.push(message));
    link = new WebSocket(`ws://${location.host}${location.pathname.replace(/page\/[^/]*$/, "link")}`);
    link.binaryType = "arraybuffer";
    let orders = pump(raygym.isWarm());
    link.onmessage = event => orders = orders.then(() => obey(JSON.parse(event.data)));
    link.onclose = () => console.error("the link to the task was closed");
    while (!window.raygymReport) await nextTask(FIRST_WORD_EVERY_MS);
    window.raygymReport(JSON.stringify({kind: "beat"}));
  });
})();
