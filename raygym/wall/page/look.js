// One slot at full size: its screen through noVNC, or what its agent sees.

import { download, draw } from "./picture.js";
import { level, number, pictureAge, seconds, spark, STALE_S, why } from "./words.js";

const $ = (id) => document.getElementById(id);
const RETRY_MS = 3000, NOBODY_DROVE = 4001;

export class Look {
  // wall: {about, tile(key), step(key, by), changed()}
  constructor(wall) {
    this.wall = wall;
    this.dialog = $("look");
    this.key = null;
    this.mode = "screen";
    this.ticket = null;
    $("look-close").onclick = () => this.dialog.close();
    $("look-back").onclick = () => this.go(-1);
    $("look-on").onclick = () => this.go(1);
    $("look-save").onclick = () => this.save();
    for (const button of $("look-modes").children) button.onclick = () => this.setMode(button.dataset.mode);
    $("take-over").onclick = () => this.switchDriving();
    $("drive-form").onsubmit = (event) => this.askToDrive(event);
    this.dialog.addEventListener("close", () => this.ended());
    this.dialog.addEventListener("cancel", (event) => { if (this.isDriving) event.preventDefault(); });
    // Before noVNC hears of a key, and wherever the focus is.
    document.addEventListener("keydown", (event) => { if (this.isOpen) this.press(event); }, true);
  }

  get isOpen() { return this.dialog.open; }
  get isDriving() { return !$("driving").hidden; }
  get hasScreen() { return this.row?.has_screen && this.wall.about.has_novnc; }
  get row() { return this.wall.tile(this.key)?.row; }
  // Whose agent's picture is wanted in full.
  get large() { return this.isOpen && this.shown === "agent" ? this.key : null; }

  open(key) {
    this.leave();
    this.key = key;
    this.hideForm();
    if (!this.isOpen) this.dialog.showModal();
    history.replaceState(null, "", `#${encodeURIComponent(key)}`);
    this.show();
    this.tick();
  }

  go(by) {
    const key = this.wall.step(this.key, by);
    if (key) this.open(key);
  }

  setMode(mode) {
    if (this.isDriving) return;
    this.mode = mode;
    this.leave();
    this.show();
    this.tick();
  }

  // What is on the stage: the screen where there is one and it is wanted, else the agent's picture.
  show() {
    this.shown = this.mode === "screen" && this.hasScreen ? "screen" : "agent";
    this.remote = this.row?.remote_id;
    this.word("");
    if (this.shown === "screen") {
      this.connect();
    } else {
      this.canvas = Object.assign(document.createElement("canvas"), { className: "agent", width: 4, height: 3 });
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", "What the agent sees");
      $("screen").replaceChildren(this.canvas);
      this.begin();
    }
    for (const button of $("look-modes").children) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === this.shown));
      button.disabled = button.dataset.mode === "screen" && !this.hasScreen;
    }
    this.wall.changed();
  }

  // The tile's small picture stands in until a fine one comes.
  begin() {
    const tile = this.wall.tile(this.key);
    this.taken_ms = tile?.hasPicture ? tile.taken_ms : null;
    if (!tile?.hasPicture) return;
    const { canvas } = tile;
    Object.assign(this.canvas, { width: canvas.width, height: canvas.height });
    this.canvas.classList.toggle("crisp", canvas.classList.contains("crisp"));
    this.canvas.getContext("2d", { alpha: false }).drawImage(canvas, 0, 0);
  }

  async connect() {
    const number = (this.number = (this.number ?? 0) + 1);
    this.word("Connecting …");
    let RFB;
    try {
      RFB = (await import("/novnc/core/rfb.js")).default;
    } catch {
      this.word("noVNC did not load. Reload the page.");
      return;
    }
    if (number !== this.number || this.shown !== "screen") return;
    const ticket = this.ticket;
    this.ticket = null;
    const query = new URLSearchParams(ticket ? { key: this.key, ticket } : { key: this.key });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/screen?${query}`, ["binary"]);
    socket.addEventListener("close", (event) => this.lost(number, event));
    $("screen").replaceChildren();
    const rfb = (this.rfb = new RFB($("screen"), socket, { shared: true }));
    Object.assign(rfb, { viewOnly: !ticket, scaleViewport: true, background: "transparent", focusOnClick: Boolean(ticket) });
    rfb.addEventListener("connect", () => {
      if (number !== this.number) return;
      this.word("");
      $("screen").classList.remove("is-gone");
      this.setDriving(Boolean(ticket));
      if (ticket) rfb.focus();
    });
  }

  lost(number, event) {
    if (number !== this.number || !this.isOpen) return;
    this.rfb = null;
    this.setDriving(false);
    $("screen").classList.add("is-gone");
    const reason = event.reason || (this.row?.is_over ? "the run has ended" : "the screen cannot be reached");
    const why = event.code === NOBODY_DROVE ? `View only again: ${event.reason}` : reason;
    this.word(`${why[0].toUpperCase()}${why.slice(1)}. Trying again …`);
    this.retry = setTimeout(() => number === this.number && this.show(), event.code === NOBODY_DROVE ? 0 : RETRY_MS);
  }

  // Lets go of the screen.
  leave() {
    this.number = (this.number ?? 0) + 1;
    clearTimeout(this.retry);
    this.rfb?.disconnect();
    this.rfb = null;
    this.canvas = null;
    this.setDriving(false);
    $("screen").classList.remove("is-gone");
    $("screen").replaceChildren();
  }

  ended() {
    const key = this.key;
    this.leave();
    this.key = null;
    this.shown = null;
    history.replaceState(null, "", location.pathname);
    this.wall.changed();
    this.wall.tile(key)?.button.focus();
  }

  async picture(picture) {
    const canvas = this.canvas;
    if (!canvas || picture.key !== this.key) return;
    await draw(canvas, picture).catch(() => {});
    this.taken_ms = picture.taken_ms;
  }

  word(text) { $("look-word").textContent = text; }

  tick() {
    const { row } = this;
    if (!this.isOpen) return;
    if (!row) {
      this.word("This slot is no longer there.");
      return;
    }
    const isWrong = this.shown === "screen" ? this.rfb && row.remote_id !== this.remote : this.mode === "screen" && this.hasScreen;
    if (isWrong) {
      this.leave();
      this.show();
    }
    $("look-title").textContent = `Slot ${row.slot}`;
    $("look-env").textContent = row.env_id;
    const age = this.taken_ms ? (performance.now() - this.taken_ms) / 1000 : null;
    if (this.shown === "agent") {
      this.word(age === null ? "No picture yet" : age > STALE_S ? `This picture is ${seconds(age)} old` : "");
      $("screen").classList.toggle("is-gone", age !== null && age > STALE_S);
    }
    this.tell(row, age);
  }

  tell(row, age) {
    const how = level(row);
    const facts = [
      ["State", row.is_over ? "ended" : row.is_silent ? "silent" : row.state, how === "bad" ? "bad" : ""],
      ["Why", how === "bad" ? (row.is_silent ? why(row) : row.error) : "", "bad"],
      ["Last score", row.score === null ? "" : number(row.score)],
      ["Scores", spark(row) && { html: `<svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img" aria-label="Scores of the last ${row.scores.length} episodes, ${number(Math.min(...row.scores))} to ${number(Math.max(...row.scores))}">${spark(row)}</svg>` }],
      ["Last outcome", row.outcome.replace("_", " "), row.outcome === "ok" ? "" : "warn"],
      ["Reason", row.outcome === "ok" ? "" : row.reason, "warn"],
      ["Last episode", row.episodes ? `${number(row.steps)} steps in ${seconds(row.seconds)}` : ""],
      ["Episodes", number(row.episodes)],
      ["Reaction time", row.reaction_ms === null ? "" : `${number(row.reaction_ms)} ms`],
      ["Age of the picture", this.shown === "agent" && age !== null ? pictureAge(age) : this.rfb ? "live screen" : ""],
      ["Remotes lost", row.remotes_lost ? String(row.remotes_lost) : ""],
      ["Remote", row.remote_id],
      ["Run", row.run],
      ["Actor", row.actor],
      ["Node", row.node.slice(0, 12)],
      ["Time", { realtime: "real time", lockstep: "lock-step" }[row.mode] || row.mode],
    ].filter(([, value]) => value);
    const said = JSON.stringify(facts);
    if (said !== this.said) {
      this.said = said;
      $("facts").replaceChildren(...facts.map(([name, value, kind]) => {
        const line = document.createElement("div"), term = document.createElement("dt"), text = document.createElement("dd");
        term.textContent = name;
        if (value.html) text.innerHTML = value.html; else text.textContent = value;
        text.className = kind || "";
        line.append(term, text);
        return line;
      }));
    }
    const { can_drive: canDrive } = this.wall.about;
    $("take-over").disabled = !canDrive || this.shown !== "screen";
    if ($("drive-word").className !== "bad") {
      $("drive-word").textContent = !row.has_screen ? "This slot has no screen to drive."
        : !this.wall.about.has_novnc ? `Screens need noVNC: run ${this.wall.about.install} where the wall runs.`
        : !canDrive ? "View only. Driving is off: start raygym watch with --take-over."
        : this.isDriving ? "Your keys and clicks reach the remote." : "View only. To drive, a person needs the token.";
    }
  }

  switchDriving() {
    if (this.isDriving) {
      this.leave();
      this.show();
      return;
    }
    const isAsking = $("drive-form").hidden;
    this.hideForm();
    $("drive-form").hidden = !isAsking;
    if (isAsking) $("drive-token").focus();
  }

  hideForm() {
    $("drive-form").hidden = true;
    $("drive-token").value = "";
    $("drive-word").className = "";
  }

  async askToDrive(event) {
    event.preventDefault();
    const token = $("drive-token").value;
    $("drive-token").value = "";
    const answer = await fetch("/take-over", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token, key: this.key }),
    }).catch(() => null);
    if (!answer?.ok) {
      $("drive-word").className = "bad";
      $("drive-word").textContent = answer?.status === 403 ? "This is not the token for driving." : "The wall does not answer.";
      $("drive-token").focus();
      return;
    }
    this.hideForm();
    this.leave();
    this.ticket = (await answer.json()).ticket;
    this.show();
  }

  setDriving(isDriving) {
    $("driving").hidden = !isDriving;
    $("take-over").setAttribute("aria-checked", String(isDriving));
  }

  save() {
    const name = `slot-${this.row?.slot}`;
    if (this.rfb) this.rfb.toBlob((blob) => download(blob, name), "image/png");
    else this.canvas?.toBlob((blob) => download(blob, name), "image/png");
  }

  press(event) {
    if (this.isDriving) {
      if (event.key !== "Escape" || !event.shiftKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.switchDriving();
      $("take-over").focus();
      return;
    }
    if (event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { ArrowLeft: () => this.go(-1), ArrowRight: () => this.go(1), p: () => this.save(),
      v: () => this.setMode(this.shown === "screen" ? "agent" : "screen") }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}
