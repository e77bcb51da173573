// One slot on the wall.

import { draw } from "./picture.js";
import { level, number, pictureAge, reaction, seconds, shortName, spark, STALE_S, what, why } from "./words.js";

const HTML = `<button type="button" class="tile" tabindex="-1">
  <span class="frame"><canvas width="4" height="3" aria-hidden="true"></canvas><span class="veil">no picture yet</span><span class="badge" hidden></span></span>
  <span class="facts"><span class="head"><span class="slot"></span><span class="name"></span><span class="age"></span></span>
    <span class="score"></span><svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true"></svg><span class="reaction"></span>
    <span class="what"></span></span></button>`;

const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

export class Tile {
  constructor(key) {
    this.key = key;
    this.item = document.createElement("li");
    this.item.innerHTML = HTML;
    this.item.dataset.key = key;
    this.button = this.item.firstElementChild;
    this.canvas = this.item.querySelector("canvas");
    this.parts = {};
    for (const name of ["slot", "name", "age", "score", "spark", "reaction", "what", "badge", "veil"]) {
      this.parts[name] = this.item.querySelector(`.${name}`);
    }
    this.hasPicture = false;
    this.isVisible = false;
    this.seen_ms = 0;
    this.taken_ms = 0;
    this.row = null;
  }

  take(row) {
    this.row = row;
    this.heard_ms = performance.now() - 1000 * row.heard_s;
    const { parts } = this;
    set(parts.slot, String(row.slot));
    set(parts.name, shortName(row));
    parts.name.title = row.env_id;
    set(parts.score, number(row.score));
    parts.score.classList.toggle("none", row.score === null);
    set(parts.reaction, reaction(row));
    const drawn = spark(row);
    if (drawn !== this.drawn) parts.spark.innerHTML = this.drawn = drawn;
    this.button.dataset.level = level(row);
    this.tick();
  }

  async show(picture) {
    this.taken_ms = picture.taken_ms;
    try {
      await draw(this.canvas, picture);
    } catch {
      return;
    }
    this.hasPicture = true;
  }

  // Seconds since what is shown was seen by the agent.
  age() {
    return this.hasPicture ? (performance.now() - this.taken_ms) / 1000 : 0;
  }

  // A tile that has just come into view is given time for a fresh picture.
  isStale() {
    const how = level(this.row);
    if (!this.hasPicture || how === "over") return false;
    const watched = this.isVisible ? (performance.now() - this.seen_ms) / 1000 : 0;
    return this.age() > STALE_S && watched > STALE_S;
  }

  tick() {
    const { row, parts } = this;
    if (row.is_silent) row.heard_s = (performance.now() - this.heard_ms) / 1000;
    const isStale = this.isStale(), text = what(row);
    this.button.classList.toggle("is-stale", isStale);
    const isBad = this.button.dataset.level === "bad";
    parts.veil.hidden = this.hasPicture && !isBad;
    set(parts.veil, isBad ? why(row) : "no picture yet");
    parts.badge.hidden = !isStale || isBad;
    if (isStale) set(parts.badge, `${seconds(this.age())} old`);
    set(parts.age, this.hasPicture && !isStale ? pictureAge(this.age()) : "");
    set(parts.what, text);
    if (parts.what.title !== text) parts.what.title = row.error || row.reason || text;
    const label = `Slot ${row.slot}, ${shortName(row)}, score ${number(row.score)}, ${isBad ? `${text}: ${why(row)}` : text}${isStale ? `, picture ${Math.round(this.age())} seconds old` : ""}`;
    if (this.label !== label) this.button.setAttribute("aria-label", (this.label = label));
  }

  words() {
    return [`${this.row.slot}  ${shortName(this.row)}  ${number(this.row.score)}`, what(this.row)];
  }
}
