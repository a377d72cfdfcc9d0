// The player: a dialog that plays from a second, shows the moment in time, and goes from moment to
// moment.

import { writeAddress } from "./address.js";
import { thumbnailPath, videoRecord } from "./api.js";
import { Details } from "./details.js";
import { element, iconButton, setIcon } from "./dom.js";
import { clock } from "./format.js";
import { momentAt, neighbour } from "./moments.js";
import { Playback } from "./playback.js";
import { Timeline } from "./timeline.js";
import { Visit } from "./visit.js";

const ARROW_SECONDS = 5;
const SHORT_SECONDS = 10; // of a clip where no moment is known
const PICTURE_TYPE = /^image\//;

export class Player {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {object} listener
   * @param {(moment: object) => void} listener.onmove another moment is shown
   * @param {() => void} listener.onclose
   * @param {(like: string) => void} listener.onsimilar more like this is asked for
   * @param {(hit: object, seconds: number) => void} listener.onopen a related video was chosen
   * @param {Events} listener.events
   * @param {(kind: string, hit: object, fields: object) => void} listener.onevent
   * @param {Likes} likes
   */
  constructor(dialog, listener, likes) {
    this.dialog = dialog;
    this._listener = listener;
    this._likes = likes;
    this._visit = new Visit(listener.onevent);
    this._moments = [];
    [this._moment, this._record] = [null, null];
    this._opened = 0; // counts, so that late answers are recognised
    this._build();
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** The id of the video that has been loaded. */
  get videoId() {
    return this._record?.id;
  }

  /**
   * Shows a video from a second on.
   * @param {object} options
   * @param {object[]} options.moments that `n` and `p` go to, see `moments.js`
   * @param {object | null} options.hit of this video, if it was found
   * @param {string} options.asked the words to mark
   * @param {object} options.state what was searched for
   */
  async open(id, seconds, { moments, hit, asked, state }) {
    const opened = (this._opened += 1);
    this._leave();
    [this._moments, this._state, this._asked] = [moments, state, asked];
    this._say("");
    if (!this.isOpen) this.dialog.showModal();
    let record;
    try {
      record = await videoRecord(id);
    } catch (error) {
      if (opened === this._opened) {
        this._details.showNothing();
        this._say(error.message);
      }
      return;
    }
    if (opened !== this._opened) return;
    const shown = hit ?? { ...record, evidence: [], confidence: null, best_seconds: seconds ?? 0 };
    const ownMoments = moments.filter((moment) => moment.hit.id === id);
    const found = momentAt(ownMoments, seconds ?? shown.best_seconds ?? 0);
    const start = seconds ?? found?.startSeconds ?? 0;
    const end = Math.min(record.duration_seconds, start + SHORT_SECONDS);
    this._moment = found ?? { hit: shown, startSeconds: start, endSeconds: end, probability: null, isWhole: true };
    this._record = record;
    this._visit.enter(this._moment, { isLiked: this._likes.has(id) });
    this._describe(record, hit ? this._moment.hit : shown, ownMoments, start);
    this._load(record, start);
    this._details.showRelated(this._moment, this._state);
  }

  close() {
    if (this.isOpen) this.dialog.close();
  }

  /** Goes to the next (1) or previous (-1) moment, of this video and then of other hits. */
  go(step) {
    if (!this._moment) return undefined; // nothing is loaded yet
    const moment = neighbour(this._moments, this._moment, step);
    if (!moment) return this._say(step > 0 ? "This is the last moment." : "This is the first moment.");
    if (moment.hit.id === this._record?.id) {
      this._leave();
      this._visit.enter(moment, { isLiked: this._likes.has(moment.hit.id) });
      if (moment.hit !== this._moment.hit) this._details.show(this._record, moment.hit, this._asked);
      this._moment = moment;
      this._playback.seek(moment.startSeconds);
      this._playback.play();
      this._describeMoment();
      this._say("");
    } else {
      // Known before its video has loaded, so that one can go on from there.
      [this._moment, this._record] = [moment, null];
    }
    this._listener.onmove(moment);
    return undefined;
  }

  _build() {
    this._video = element("video", { playsinline: true, preload: "auto", tabindex: "-1" });
    this._image = element("img", { alt: "", hidden: true });
    this._playback = new Playback(this._video, {
      ontime: () => this._showTime(),
      onproblem: (message) => this._say(message),
    });
    this._video.addEventListener("click", () => this._playback.toggle());
    this._video.addEventListener("pause", () => this._reportWatched());
    // The focus begins at it, as a dialog would give it to the video.
    this._playButton = iconButton("play", "Play (space)", () => this._playback.toggle(), { autofocus: true });
    this._soundButton = iconButton("sound", "Mute (m)", () => this._toggleSound());
    this._time = element("span", { class: "position" });
    this._message = element("p", { class: "message", role: "status" });
    this._timeline = new Timeline((seconds) => this._playback.seek(seconds));
    this._controls = element(
      "div",
      { class: "controls" },
      iconButton("previous", "Previous moment (p)", () => this.go(-1)),
      this._playButton,
      iconButton("next", "Next moment (n)", () => this.go(1)),
      this._time,
      this._soundButton,
      iconButton("fullscreen", "Full screen (f)", () => this._toggleFullscreen()),
    );
    this._screen = element("div", { class: "screen" }, this._video, this._image);
    this._stage = element("div", { class: "stage" }, this._screen, this._timeline.node, this._controls);
    const aside = element("div", { class: "aside" });
    this._details = new Details(aside, {
      oncopy: () => this._copyLink(),
      onsimilar: (like) => {
        this._visit.want();
        this._listener.onsimilar(like);
      },
      heart: (hit) =>
        this._likes.button(hit, { class: "action", title: "Like (l)", onclick: () => this._toggleLike() }, "Like"),
      onopen: this._listener.onopen,
      events: this._listener.events,
    });
    const closeButton = iconButton("close", "Close (Escape)", () => this.close(), { class: "quiet close" });
    const main = element("div", { class: "watch" }, this._stage, this._message);
    this.dialog.append(element("div", { class: "sheet" }, main, aside, closeButton));
    this.dialog.addEventListener("keydown", (event) => this._onKey(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.close());
    this.dialog.addEventListener("close", () => this._onClosed());
    addEventListener("pagehide", () => this._reportWatched());
  }

  _load(record, seconds) {
    const isPicture = PICTURE_TYPE.test(record.media?.type ?? "") || record.duration_seconds <= 0;
    [this._video.hidden, this._image.hidden] = [isPicture, !isPicture];
    this._stage.classList.toggle("still", isPicture);
    if (isPicture) {
      this._playback.close();
      this._image.src = thumbnailPath(record.id, 0, 1280);
      return;
    }
    this._playback.open(record, seconds, this._moment.endSeconds);
    this._playback.play();
    this._showTime();
  }

  _describe(record, hit, moments, seconds) {
    const durationSeconds = record.duration_seconds;
    this._timeline.show({ durationSeconds, moments, strip: hit.strip ?? undefined, seconds });
    this._details.show(record, hit, this._asked);
    this._describeMoment();
  }

  _describeMoment() {
    this._timeline.showMoment(this._moment);
    this._details.showMoment(this._moment);
  }

  _showTime() {
    if (!this._record) return;
    const seconds = this._playback.seconds;
    this._timeline.showSeconds(seconds);
    this._time.textContent = `${clock(seconds)} / ${clock(this._record.duration_seconds)}`;
    const [name, label] = this._video.paused ? ["play", "Play (space)"] : ["pause", "Pause (space)"];
    setIcon(this._playButton, name, label);
  }

  _toggleSound() {
    this._video.muted = !this._video.muted;
    const [name, label] = this._video.muted ? ["muted", "Unmute (m)"] : ["sound", "Mute (m)"];
    setIcon(this._soundButton, name, label);
  }

  _toggleLike() {
    if (!this._moment) return;
    const { hit, startSeconds, endSeconds } = this._moment;
    this._visit.want();
    const liked = this._likes.toggle(hit, { start_seconds: startSeconds, end_seconds: endSeconds });
    if (liked !== null) this._say(liked ? "Liked." : "No longer liked.");
  }

  _toggleFullscreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this._stage.requestFullscreen?.().catch(() => {});
  }

  _onKey(event) {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const isControl = event.target.closest("button, a") !== null;
    const actions = {
      n: () => this.go(1),
      p: () => this.go(-1),
      f: () => this._toggleFullscreen(),
      l: () => this._toggleLike(),
      m: () => this._toggleSound(),
      ArrowLeft: () => this._playback.seek(this._playback.seconds - ARROW_SECONDS),
      ArrowRight: () => this._playback.seek(this._playback.seconds + ARROW_SECONDS),
      " ": () => this._playback.toggle(),
    };
    if (!(event.key in actions) || (event.key === " " && isControl)) return;
    event.preventDefault();
    actions[event.key]();
  }

  async _copyLink() {
    const { hit, startSeconds } = this._moment;
    const address = writeAddress({ ...this._state, video: hit.id, seconds: startSeconds });
    try {
      await navigator.clipboard.writeText(new URL(address, location.href).href);
      this._say("The link is copied.");
    } catch {
      this._say("The browser does not allow copying here: copy the address instead.");
    }
  }

  _say(message) {
    this._message.textContent = message;
  }

  _reportWatched() {
    if (this._visit.watched(this._playback.watchedSeconds)) this._playback.forgetWatched();
  }

  /** The user goes on to something else. */
  _leave() {
    this._reportWatched();
    this._visit.leave(this._playback.seconds);
    this._playback.forgetWatched();
  }

  _onClosed() {
    if (this.isOpen) return; // the event comes late: it was opened again meanwhile
    this._opened += 1;
    this._leave();
    this._playback.close();
    this._moment = null;
    this._listener.onclose();
  }
}
