// Values -> text for people.

import { element } from "./dom.js";

/** Seconds as `0:07`, `12:30` or `1:02:03`. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const digits = (value) => String(value).padStart(2, "0");
  const start = hours ? `${hours}:${digits(minutes)}` : String(minutes);
  return `${start}:${digits(whole % 60)}`;
}

/** A stretch of time as `0:07–0:12`. */
export function span(startSeconds, endSeconds) {
  const [start, end] = [clock(startSeconds), clock(endSeconds)];
  return start === end ? start : `${start}–${end}`;
}

/** A probability in percent; nothing is entirely certain. */
export function percent(probability) {
  const value = Math.round(100 * probability);
  if (value <= 0) return "<1 %";
  return value >= 100 ? ">99 %" : `${value} %`;
}

/** Time left, in the unit that people would say. */
export function timeLeft(seconds) {
  if (seconds < 60) return "less than a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return plural(minutes, "minute");
  return plural(Math.round(seconds / 3600), "hour");
}

export function plural(count, noun, nouns = `${noun}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? noun : nouns}`;
}

/** An ISO 8601 date, as precise as it is: `2024`, `May 2024`, `3 May 2024`. */
export function day(date) {
  const [, year, month, number] = /^(\d{4})(?:-(\d\d))?(?:-(\d\d))?/.exec(date) ?? [];
  if (!year) return date;
  const options = { year: "numeric", timeZone: "UTC" };
  if (month) options.month = "short";
  if (number) options.day = "numeric";
  const moment = new Date(Date.UTC(year, (month ?? 1) - 1, number ?? 1));
  return moment.toLocaleDateString("en-GB", options);
}

/** The title of a video, or else the name of its file. */
export function videoName({ video = "", metadata = {} }) {
  const title = metadata?.title;
  return typeof title === "string" && title.trim() ? title.trim() : video.split("/").at(-1);
}

const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });

function wordsOf(text) {
  return [...segmenter.segment(text)].map(({ segment, isWordLike }) => ({
    segment,
    word: isWordLike ? segment.toLowerCase() : "",
  }));
}

/** Whether two words are forms of one: `bicycle` and `bicycles`. */
function areAlike(one, other) {
  if (one === other) return true;
  const shorter = Math.min(one.length, other.length);
  let same = 0;
  while (same < shorter && one[same] === other[same]) same += 1;
  return same >= 4 && Math.max(one.length, other.length) - same <= 3;
}

const FUNCTION_WORDS = new Set(
  "a an and are as at by for from in is it of on or the to with without not no then".split(" "),
);

/** The text, with a `mark` around each word that the query has. */
export function marked(text, query) {
  const asked = wordsOf(query)
    .map(({ word }) => word)
    .filter((word) => word && !FUNCTION_WORDS.has(word));
  const fragment = document.createDocumentFragment();
  for (const { segment, word } of wordsOf(text)) {
    const matches = word && asked.some((other) => areAlike(word, other));
    fragment.append(matches ? element("mark", {}, segment) : segment);
  }
  fragment.normalize();
  return fragment;
}
