// Takes time out of the page's hands, for lock-step: nothing moves but by pageClock.tick().
// Loaded before all other scripts. What the page itself needs of real time is in pageClock.real.
"use strict";

const pageClock = (() => {
  const LOADING_MS = 1000, EPISODE_MS = 100000, UNIX_MS = Date.UTC(2020, 0, 1);
  const TimeOfDay = Date;
  const real = {
    fetch: window.fetch.bind(window),
    nextPaint: window.requestAnimationFrame.bind(window),
    wait: window.setTimeout.bind(window),
  };

  // What programs read as the time stands still while a game loads, and starts anew with each
  // episode; what they are woken by only grows, as Ruffle takes differences of it.
  let readMs = LOADING_MS, isRunning = false, wakingMs = 0, dateMs = UNIX_MS;
  let lastId = 0, randomState = 1, fetching = 0;
  let painters = new Map();
  const timers = new Map();

  function random32() {  // mulberry32
    randomState = (randomState + 0x6d2b79f5) | 0;
    let mixed = Math.imul(randomState ^ randomState >>> 15, 1 | randomState);
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed;
    return (mixed ^ mixed >>> 14) >>> 0;
  }

  function addTimer(callback, delayMs, everyMs, rest) {
    timers.set(++lastId, {callback, rest, everyMs, dueMs: wakingMs + Math.max(0, +delayMs || 0)});
    return lastId;
  }

  function call(callback, ...values) {
    try {
      callback(...values);
    } catch (error) {
      console.error(error);
    }
  }

  function runTimers() {
    const due = [...timers].filter(([, timer]) => timer.dueMs <= wakingMs);
    due.sort(([, a], [, b]) => a.dueMs - b.dueMs);
    for (const [id, timer] of due) {
      if (!timers.has(id)) continue;
      if (timer.everyMs === null) timers.delete(id);
      else timer.dueMs += Math.max(1, timer.everyMs);
      if (typeof timer.callback === "function") call(timer.callback, ...timer.rest);
    }
  }

  performance.now = () => readMs;
  TimeOfDay.now = () => Math.floor(dateMs + readMs);
  window.Date = new Proxy(TimeOfDay, {
    construct: (target, given, made) =>
      Reflect.construct(target, given.length ? given : [TimeOfDay.now()], made),
    apply: () => new window.Date().toString(),
  });
  Math.random = () => random32() / 2 ** 32;
  Crypto.prototype.getRandomValues = function (array) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    for (let i = 0; i < bytes.length; i++) bytes[i] = random32();
    return array;
  };
  window.requestAnimationFrame = callback => (painters.set(++lastId, callback), lastId);
  window.cancelAnimationFrame = id => void painters.delete(id);
  window.setTimeout = (callback, ms, ...rest) => addTimer(callback, ms, null, rest);
  window.setInterval = (callback, ms, ...rest) => addTimer(callback, ms, +ms || 0, rest);
  window.clearTimeout = window.clearInterval = id => void timers.delete(id);
  // A sound's position is told in real time, and streams set the pace of a movie.
  window.AudioContext = class {
    constructor() {
      throw new DOMException("no sound in lock-step", "NotSupportedError");
    }
  };
  window.fetch = async (...given) => {
    fetching++;
    try {
      const came = await real.fetch(...given);
      const {status, statusText, headers, url} = came;
      const whole = new Response(await came.arrayBuffer(), {status, statusText, headers});
      return Object.defineProperty(whole, "url", {value: url});
    } finally {
      fetching--;
    }
  };

  return {
    real,

    // Whether something is on its way, which takes real time.
    isFetching: () => fetching > 0,

    // Stops the time that is read, and makes all randomness that of a seed.
    stop(seed) {
      [isRunning, readMs, dateMs, randomState] = [false, LOADING_MS, UNIX_MS + 1000 * seed, seed | 0];
    },

    // Lets the time that is read run, from where it stopped.
    run() {
      isRunning = true;
    },

    // Lets it run from where each episode begins that needs no loading.
    begin(seed) {
      [isRunning, readMs, dateMs, randomState] = [true, EPISODE_MS, UNIX_MS, seed | 0];
    },

    // Lets that much time pass at once, and paints.
    tick(ms) {
      wakingMs += ms;
      if (isRunning) readMs += ms;
      runTimers();
      const now = [...painters.values()];
      painters = new Map();
      for (const callback of now) call(callback, wakingMs);
    },
  };
})();
