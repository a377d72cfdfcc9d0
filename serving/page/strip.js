// How well each part of a video matches, drawn over its length: a slider that goes to a second.

import { element, svg } from "./dom.js";
import { clock, percent } from "./format.js";
import { partsOf } from "./moments.js";

const WIDTH = 1000; // units of the drawing
const HEIGHT = 100;
const MAX_BARS = 250; // more would be thinner than a pixel
const STEP_SECONDS = 5;

/**
 * Creates the strip.
 * @param {object} options
 * @param {number} options.durationSeconds
 * @param {{spans: number[][], probabilities: number[]}} options.strip
 * @param {number} options.seconds where the mark stands at first
 * @param {object | null} options.moment that is underlined, unless it is the whole video
 * @param {string} options.label for screen readers
 * @param {(seconds: number) => void} options.onpick a second was clicked, or chosen with Enter
 * @param {boolean} options.follows arrow keys pick at once, as in a player; otherwise they go from
 *   part to part, and Enter picks
 * @returns {HTMLElement & {showSeconds: (seconds: number) => void}}
 */
export function createStrip({ durationSeconds, strip, seconds, label, onpick, moment = null, follows = false }) {
  const parts = partsOf(strip);
  let current = seconds;
  const cursor = element("i", { class: "cursor" });
  const node = element(
    "div",
    {
      class: "strip",
      role: "slider",
      tabindex: "0",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": durationSeconds.toFixed(1),
      onclick: pickPointed,
      onkeydown: pickByKey,
    },
    drawing(parts, durationSeconds),
    underline(moment, durationSeconds),
    cursor,
  );

  node.showSeconds = (value) => {
    current = Math.min(durationSeconds, Math.max(0, value));
    const share = durationSeconds ? current / durationSeconds : 0;
    cursor.style.setProperty("--at", String(share));
    node.setAttribute("aria-valuenow", current.toFixed(1));
    const part = parts[partAt(current)];
    const match = part ? `, ${percent(part.probability)} probable` : "";
    node.setAttribute("aria-valuetext", `${clock(current)} of ${clock(durationSeconds)}${match}`);
  };

  function partAt(value) {
    return parts.findIndex(({ start, end }) => value >= start && value < end);
  }

  function pickPointed(event) {
    const { left, width } = node.getBoundingClientRect();
    node.showSeconds(((event.clientX - left) / width) * durationSeconds);
    onpick(current);
  }

  function pickByKey(event) {
    const target = targetOfKey(event.key);
    if (target === null && !(event.key === "Enter" && !follows)) return;
    event.preventDefault();
    event.stopPropagation();
    if (target !== null) node.showSeconds(target);
    if (follows || event.key === "Enter") onpick(current);
  }

  function targetOfKey(key) {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[key];
    if (key === "Home") return 0;
    if (key === "End") return durationSeconds;
    if (!step) return null;
    if (follows || !parts.length) return current + step * STEP_SECONDS;
    return parts[Math.min(parts.length - 1, Math.max(0, partAt(current) + step))].start;
  }

  node.showSeconds(seconds);
  return node;
}

function underline(moment, durationSeconds) {
  if (!moment || moment.endSeconds - moment.startSeconds > 0.95 * durationSeconds) return null;
  const line = element("i", { class: "here" });
  line.style.setProperty("--from", String(moment.startSeconds / durationSeconds));
  line.style.setProperty("--to", String(moment.endSeconds / durationSeconds));
  return line;
}

/** Bars as one path; they are as high as their probability. */
function drawing(parts, durationSeconds) {
  const bars = durationSeconds ? binned(parts, durationSeconds) : [];
  const outline = bars.map(({ start, end, probability }) => {
    const [left, right] = [start, end].map((value) => (WIDTH * value) / durationSeconds);
    const top = HEIGHT * (1 - Math.max(0.04, probability));
    const gap = Math.min(2, (right - left) / 4);
    return `M${left.toFixed(1)},${HEIGHT}V${top.toFixed(1)}H${(right - gap).toFixed(1)}V${HEIGHT}Z`;
  });
  const size = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" };
  return svg("svg", { ...size, "aria-hidden": "true" }, svg("path", { d: outline.join("") }));
}

/** Of a long video the best of each of a number of bins. */
function binned(parts, durationSeconds) {
  if (parts.length <= MAX_BARS) return parts;
  const width = durationSeconds / MAX_BARS;
  const best = new Array(MAX_BARS).fill(0);
  for (const { start, end, probability } of parts) {
    const last = Math.min(MAX_BARS - 1, Math.ceil(end / width) - 1);
    for (let bin = Math.floor(start / width); bin <= last; bin += 1) {
      best[bin] = Math.max(best[bin], probability);
    }
  }
  return best.map((probability, i) => ({ start: i * width, end: (i + 1) * width, probability }));
}
