// What a slot's row means, and how it is said.

export const STALE_S = 3;

const TROUBLED = new Set(["retrying", "quarantined", "failed"]);

// "bad": no play now. "warn": plays, but the last episode failed. Then "ok", "starting", "over".
export function level(row) {
  if (row.is_over || row.state === "closed" || row.state === "stopped") return "over";
  if (TROUBLED.has(row.state) || row.is_silent) return "bad";
  if (row.outcome && row.outcome !== "ok") return "warn";
  return row.state === "starting" && !row.episodes ? "starting" : "ok";
}

const firstLine = (text) => text.split("\n").find((line) => line.trim()) || "";

// Why a slot does not play.
export function why(row) {
  if (row.is_silent) return `Its actor has said nothing for ${seconds(row.heard_s)}`;
  return firstLine(row.error) || row.reason || "no reason was given";
}

export function what(row) {
  const how = level(row);
  if (how === "over") return "ended";
  if (how === "bad") return row.is_silent ? "silent" : row.state;
  if (how === "warn") return `${row.outcome.replace("_", " ")}: ${firstLine(row.reason) || "no reason was given"}`;
  if (how === "starting") return "starting";
  if (!row.episodes) return "first episode";
  return `${row.outcome} · ${row.episodes} ${row.episodes === 1 ? "episode" : "episodes"}`;
}

export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  return value < 7200 ? `${Math.round(value / 60)} min` : `${Math.round(value / 3600)} h`;
}

// Of a fresh picture the tenths would only flicker.
export const pictureAge = (value) => (value < 1.5 ? "now" : seconds(value));

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const text = size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
  return text.replace("-", "−");
}

export const reaction = (row) => (row.reaction_ms === null ? "" : `${Math.round(row.reaction_ms)} ms`);

export const shortName = (row) => row.env_id.replace(/^[^.]*\./, "").replace(/-v\d+$/, "") || row.env_id;

export function matches(row, text) {
  if (!text) return true;
  const all = [`slot ${row.slot}`, `#${row.slot}`, row.env_id, row.run, row.state, row.outcome, row.reason,
    row.remote_id, row.node, row.actor, row.runtime, row.mode].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}

// The scores of the last episodes, as a line; what failed is a stroke below it.
export function spark(row) {
  const scores = row.scores.map((score) => score ?? 0);
  if (scores.length < 2) return "";
  const low = Math.min(...scores), high = Math.max(...scores), span = high - low || 1;
  const step = 100 / (scores.length - 1);
  const y = (score) => (high === low ? 10 : 18 - (16 * (score - low)) / span).toFixed(1);
  const points = scores.map((score, i) => `${(i * step).toFixed(1)},${y(score)}`).join(" ");
  const failed = row.failed.map((has, i) => (has ? `<line x1="${(i * step).toFixed(1)}" x2="${(i * step).toFixed(1)}" y1="15" y2="20"/>` : "")).join("");
  return `<polyline points="${points}"/>${failed}`;
}

const RANKS = { bad: 0, warn: 1, starting: 2, ok: 3, over: 4 };
const last = (value, missing) => (value === null || value === undefined ? missing : value);
const byName = (a, b) => (a.row.run < b.row.run ? -1 : a.row.run > b.row.run ? 1 : a.row.slot - b.row.slot);

export const ORDERS = {
  slot: byName,
  trouble: (a, b) => RANKS[level(a.row)] - RANKS[level(b.row)] || byName(a, b),
  low: (a, b) => last(a.row.score, Infinity) - last(b.row.score, Infinity) || byName(a, b),
  high: (a, b) => last(b.row.score, -Infinity) - last(a.row.score, -Infinity) || byName(a, b),
  slow: (a, b) => last(b.row.reaction_ms, -1) - last(a.row.reaction_ms, -1) || byName(a, b),
  old: (a, b) => b.age() - a.age() || byName(a, b),
};
