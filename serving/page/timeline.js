// The strip of the video that is open, with a line below it for each of its moments.

import { element } from "./dom.js";
import { createStrip } from "./strip.js";

export class Timeline {
  /** @param {(seconds: number) => void} onpick a second was chosen */
  constructor(onpick) {
    this.node = element("div", { class: "timeline" });
    this._onpick = onpick;
    this._strip = null;
    this._marks = [];
  }

  /**
   * Shows another video.
   * @param {object} options
   * @param {number} options.durationSeconds
   * @param {object | undefined} options.strip of the answer; made of the moments where it has none
   * @param {object[]} options.moments of this video, see `moments.js`
   * @param {number} options.seconds where it is opened
   */
  show({ durationSeconds, moments, strip = stripOf(moments), seconds }) {
    const label = "Position in the video";
    this._strip = createStrip({ durationSeconds, strip, seconds, label, onpick: this._onpick, follows: true });
    this._marks = moments.map((moment) => markOf(moment, durationSeconds));
    this.node.replaceChildren(this._strip, ...this._marks);
  }

  showSeconds(seconds) {
    this._strip?.showSeconds(seconds);
  }

  showMoment({ startSeconds }) {
    for (const mark of this._marks) mark.classList.toggle("current", mark.startSeconds === startSeconds);
  }
}

function markOf({ startSeconds, endSeconds }, durationSeconds) {
  const mark = element("i", { class: "mark" });
  mark.style.setProperty("--from", String(startSeconds / durationSeconds));
  mark.style.setProperty("--to", String(endSeconds / durationSeconds));
  return Object.assign(mark, { startSeconds });
}

function stripOf(moments) {
  return {
    spans: moments.map((moment) => [moment.startSeconds, moment.endSeconds]),
    probabilities: moments.map((moment) => moment.probability ?? 1),
  };
}
