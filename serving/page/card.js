// A hit -> its card: thumbnail, strip, probability, reason, and what else is known.

import { likeOf, writeAddress } from "./address.js";
import { thumbnailPath } from "./api.js";
import { element, icon } from "./dom.js";
import { clock, day, marked, percent, plural, span, videoName } from "./format.js";
import { bestMoment } from "./moments.js";
import { addPreview } from "./preview.js";
import { createStrip } from "./strip.js";

const MAX_REASONS = 3;
const MAX_COPIES_NAMED = 3;
const SEEN = "seen in the picture";

/**
 * Creates the card.
 * @param {object} options
 * @param {object} options.state what was searched for, see `address.js`
 * @param {string} options.asked the words to mark
 * @param {boolean} options.isWhole whether the whole video is meant, and no moment of it
 * @param {(hit: object, seconds: number) => void} options.onopen
 * @param {(like: string) => void} options.onsimilar more like this is asked for
 * @param {Likes} options.likes
 */
export function createCard(hit, { state, asked, isWhole = false, onopen, onsimilar, likes }) {
  const moment = isWhole ? wholeOf(hit) : bestMoment(hit, state.level);
  const name = videoName(hit);
  const address = writeAddress({ ...state, video: hit.id, seconds: moment.startSeconds });
  const open = (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // into a new tab or window
    event.preventDefault();
    onopen(hit, moment.startSeconds);
  };
  const seconds = isWhole ? clock(hit.duration_seconds) : span(moment.startSeconds, moment.endSeconds);
  const figure = coverOf(hit, { moment, address, open, time: seconds });
  const time = element("span", { class: "hidden" }, ` ${span(moment.startSeconds, moment.endSeconds)}`);
  const link = element("a", { href: address, onclick: open, title: hit.video }, name, time);
  const title = element("h2", {}, link);
  const card = element(
    "li",
    { class: "card" },
    figure,
    hit.duration_seconds > 0 &&
      !isWhole &&
      createStrip({
        durationSeconds: hit.duration_seconds,
        strip: hit.strip ?? { spans: [[moment.startSeconds, moment.endSeconds]], probabilities: [1] },
        ...{ seconds: moment.startSeconds, moment },
        label: `Where ${name} matches`,
        onpick: (seconds) => onopen(hit, seconds),
      }),
    element("div", { class: "line" }, title, probabilityOf(hit)),
    reasonsOf(hit, asked),
    factsOf(hit),
    element(
      "div",
      { class: "card-actions" },
      likes.button(hit, { class: "on-cover", "aria-label": `Like ${name}`, title: "Like (l)" }),
      similarButton(hit, moment, isWhole ? "video" : state.level, onsimilar),
    ),
  );
  card.addEventListener("keydown", (event) => {
    if (event.key === "l" && !event.ctrlKey && !event.metaKey && !event.altKey) likes.toggle(hit);
  });
  if (hit.duration_seconds > 0) addPreview(card, figure, moment);
  return card;
}

function wholeOf(hit) {
  return { hit, startSeconds: 0, endSeconds: hit.duration_seconds, probability: null };
}

function coverOf(hit, { moment, address, open, time }) {
  const seconds = Math.min(Math.max(hit.best_seconds, moment.startSeconds), moment.endSeconds);
  const image = element("img", {
    ...{ src: thumbnailPath(hit.id, seconds, 480), alt: "", loading: "lazy", decoding: "async" },
    ...{ width: "480", height: "270" },
    onload: () => image.classList.toggle("tall", image.naturalWidth < 1.3 * image.naturalHeight),
    onerror: () => image.replaceWith(element("p", { class: "no-image" }, "no picture")),
  });
  return element(
    "a",
    { class: "cover", href: address, tabindex: "-1", "aria-hidden": "true", onclick: open },
    image,
    hit.duration_seconds > 0 && element("span", { class: "time" }, time),
  );
}

/** The probability of a match, in words and as a bar. */
export function probabilityOf({ confidence }) {
  if (confidence == null) return null;
  const fill = element("i");
  fill.style.setProperty("--share", String(confidence));
  return element(
    "span",
    { class: "probability", title: "Probability of a match" },
    element("span", { class: "bar", "aria-hidden": "true" }, fill),
    element("span", {}, percent(confidence), element("span", { class: "hidden" }, " probable")),
  );
}

/** Why it is a hit, in words. */
export function reasonsOf(hit, asked) {
  const personal = hit.reasons ?? [];
  const reasons = [...personal, ...hit.evidence.map((one) => reasonOf(one, asked)).filter(Boolean)];
  if (!reasons.length) reasons.push(SEEN);
  const items = reasons.slice(0, MAX_REASONS).map((reason) => element("li", {}, reason));
  return element("ul", { class: "reasons", "aria-label": "Why" }, ...items);
}

function reasonOf({ source, rank, detail = "" }, asked) {
  const text = detail.split(/\s+/).join(" ").trim();
  if (source === "visual") return rank == null ? null : SEEN;
  if (source === "lexical") return text ? marked(text, asked) : "in its words";
  if (source === "temporal_order") return text ? `in this order: ${text}` : "in this order";
  if (source === "without") return text ? `shows what was left out: ${text}` : null;
  if (source === "token_matching") return "seen, word by word";
  return null;
}

function factsOf(hit) {
  const folder = hit.video.split("/").slice(0, -1).join("/");
  const copies = hit.also_as ?? [];
  const named = copies.slice(0, MAX_COPIES_NAMED).map((copy) => copy.video);
  const facts = [
    hit.duration_seconds > 0 && element("span", {}, clock(hit.duration_seconds), " long"),
    hit.date && element("time", { datetime: hit.date, title: dateOrigin(hit) }, day(hit.date)),
    folder && element("span", { class: "folder", title: hit.video }, folder),
    copies.length > 0 &&
      element("span", { title: `also as ${named.join(", ")}` }, plural(copies.length, "copy", "copies")),
  ].filter(Boolean);
  return element("p", { class: "facts" }, ...facts);
}

function dateOrigin(hit) {
  return hit.date_source ? `by its ${hit.date_source}` : "";
}

function similarButton(hit, moment, level, onsimilar) {
  const like =
    level === "moment" ? likeOf(hit.id, moment.startSeconds, moment.endSeconds) : likeOf(hit.id);
  const label = `More like this ${level}`;
  return element(
    "button",
    { class: "on-cover", type: "button", "aria-label": `${label}: ${videoName(hit)}`, title: label, onclick: () => onsimilar(like) },
    icon("similar"),
  );
}
