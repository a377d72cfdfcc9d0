// A video element that counts in seconds of the whole video, whether it plays the file itself or,
// where a browser cannot play that, a clip of it.

import { clipPath, mediaPath, thumbnailPath } from "./api.js";

const MAX_CLIP_SECONDS = 60;
const BEFORE_SECONDS = 3; // of a clip, before the moment
const AFTER_SECONDS = 12;

const probe = document.createElement("video");

/** Whether this browser plays the file as it is. */
export function browserPlays(media) {
  if (!media?.plays) return false;
  return !media.type || probe.canPlayType(media.type) !== "";
}

export class Playback {
  /**
   * @param {HTMLVideoElement} video
   * @param {{ontime: () => void, onproblem: (message: string) => void}} listener
   */
  constructor(video, { ontime, onproblem }) {
    this.video = video;
    this.record = null;
    this._offsetSeconds = 0; // of the clip in the video
    this._clipEnd = null; // null while the file itself plays
    this._lastSeconds = 0;
    this._watched = 0;
    this._onproblem = onproblem;
    video.addEventListener("timeupdate", () => this._countWatched());
    for (const event of ["timeupdate", "seeked", "play", "pause", "loadedmetadata"]) {
      video.addEventListener(event, ontime);
    }
    video.addEventListener("error", () => this._useClipInstead());
    video.addEventListener("ended", () => this._continueClip());
  }

  /** Opens a video at a second. */
  open(record, startSeconds, endSeconds) {
    this.record = record;
    this._lastSeconds = startSeconds;
    this._watched = 0;
    this.video.poster = thumbnailPath(record.id, startSeconds, 640);
    if (browserPlays(record.media)) {
      // Some files do not begin at 0 by a browser's clock; our seconds count from the first frame.
      [this._offsetSeconds, this._clipEnd] = [-(record.media.offset_seconds ?? 0), null];
      this._load(mediaPath(record.id), startSeconds);
    } else {
      this._loadClip(startSeconds, endSeconds);
    }
  }

  close() {
    this.video.pause();
    this.record = null;
    this.video.removeAttribute("src");
    this.video.removeAttribute("poster");
    this.video.load(); // ends the download
  }

  get seconds() {
    return this._target ?? this._offsetSeconds + this.video.currentTime;
  }

  /** Seconds that were watched, not those skipped, since `open` or `forgetWatched`. */
  get watchedSeconds() {
    return this._watched;
  }

  forgetWatched() {
    this._watched = 0;
  }

  seek(seconds) {
    const { record } = this;
    if (!record) return;
    const target = Math.min(Math.max(0, seconds), Math.max(0, record.duration_seconds - 0.05));
    const isInClip = target >= this._offsetSeconds && target < this._clipEnd;
    if (this._clipEnd !== null && !isInClip) {
      this._loadClip(target, target);
    } else if (this._target != null) {
      this._target = target; // applied once it has loaded
    } else {
      this.video.currentTime = target - this._offsetSeconds;
    }
    this._lastSeconds = target;
  }

  toggle() {
    if (this.video.paused) this.play();
    else this.video.pause();
  }

  play() {
    this.video.play().catch(() => {}); // not allowed before the first click, or taken away
  }

  _load(source, seconds) {
    this._target = seconds;
    const apply = () => {
      this.video.currentTime = this._target - this._offsetSeconds;
      this._target = null;
    };
    this.video.addEventListener("loadedmetadata", apply, { once: true });
    this.video.src = source;
  }

  _loadClip(startSeconds, endSeconds) {
    const start = Math.max(0, startSeconds - BEFORE_SECONDS);
    const longest = Math.min(start + MAX_CLIP_SECONDS, this.record.duration_seconds);
    const end = Math.min(longest, Math.max(endSeconds, startSeconds) + AFTER_SECONDS);
    [this._offsetSeconds, this._clipEnd] = [start, end];
    this._load(clipPath(this.record.id, start, end), startSeconds);
  }

  /** What a browser was thought to play it may not: then a clip of it. */
  _useClipInstead() {
    if (!this.record || !this.video.getAttribute("src")) return;
    if (this._clipEnd === null) {
      const isPlaying = !this.video.paused;
      this._loadClip(this._lastSeconds, this._lastSeconds);
      if (isPlaying) this.play();
    } else {
      this._onproblem("This video cannot be played: its file is missing or damaged.");
    }
  }

  _continueClip() {
    if (this._clipEnd === null || this._clipEnd >= this.record.duration_seconds - 0.1) return;
    this._loadClip(this._clipEnd, this._clipEnd);
    this.play();
  }

  _countWatched() {
    const step = this.seconds - this._lastSeconds;
    if (!this.video.paused && step > 0 && step < 2) this._watched += step;
    this._lastSeconds = this.seconds;
  }
}
