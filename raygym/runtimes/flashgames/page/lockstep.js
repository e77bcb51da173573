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
  const SHOW_EVERY_MS = 100;
  const INPUTS = [
    "keydown", "keyup", "keypress", "pointerdown", "pointerup", "pointermove", "pointerover",
    "pointerout", "mousedown", "mouseup", "mousemove", "mouseover", "mouseout", "click",
    "dblclick", "auxclick", "contextmenu", "wheel", "touchstart", "touchmove", "touchend",
    "dragstart", "drop", "copy", "cut", "paste"];

  const held = new Map();
  let told = [], game = null, link = null;
  let canvas = null, context = null, mirror = null, isShowDue = false;
  let shrink = null, shrinksTo = "", part = null;

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
    const isLoaded = raygym.isReady(order);
    game = order;
    if (!isLoaded) {
      pageClock.stop(order.seed);
      await pump(raygym.play(order));
      openPicture();
    }
    if (order.reset) {
      pageClock.begin(order.seed);
      await raygym.play(order);
    } else {
      pageClock.run();
    }
    await run(1);
    choosePicture(order);
  }

  // Whole pictures leave the page as RGBA, parts and smaller ones as they are wanted.
  function choosePicture({picture, paint_divisor: divisor}) {
    const wanted = JSON.stringify([picture, canvas.width, canvas.height]);
    if (wanted === shrinksTo) return;
    part = picture ? picture.crop.map(side => side / divisor) : whole();
    shrink = picture && shrinker(part[2], part[3], picture);
    shrinksTo = wanted;
  }

  const whole = () => [0, 0, canvas.width, canvas.height];

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
      const count = Math.min(left, MAX_FRAMES_A_TICK);
      raygym.expectUnseen(count - 1);
      pageClock.tick(count * periodMs());
      await null;  // the report of this tick was put off until now
    }
  }

  const isOver = () => told.some(frame => frame.is_over || frame.is_time_up);

  // A person who looks in sees a copy, now and then: to show each picture costs a fifth of a step.
  function openPicture() {
    canvas = raygym.player().shadowRoot.querySelector("canvas");
    context = canvas.getContext("2d");
    canvas.style.visibility = "hidden";
    mirror = document.createElement("canvas");
    mirror.width = canvas.width;
    mirror.height = canvas.height;
    mirror.id = "mirror";
    document.getElementById("stage").append(mirror);
  }

  function showSoon() {
    if (isShowDue) return;
    isShowDue = true;
    pageClock.real.wait(() => {
      isShowDue = false;
      mirror.getContext("2d").drawImage(canvas, 0, 0);
    }, SHOW_EVERY_MS);
  }

  // What the first frame of an episode brought counts in the first step.
  function answer() {
    link.send(JSON.stringify({
      reward: told.reduce((sum, frame) => sum + frame.reward, 0),
      is_over: told.some(frame => frame.is_over),
      is_time_up: told.some(frame => frame.is_time_up),
      state: told.at(-1)?.state ?? null,
      size: [canvas.width, canvas.height],
    }));
    sendPicture(part, shrink);
    showSoon();
  }

  function sendPicture(part, shrink) {
    const pixels = context.getImageData(...part).data;
    link.send(shrink ? shrink(pixels) : pixels);
  }

  async function obey(order) {
    try {
      if (order.kind === "begin") {
        await begin(order);
        answer();
      } else if (order.kind === "look") {
        link.send(JSON.stringify({size: [canvas.width, canvas.height]}));
        sendPicture(whole(), null);
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
