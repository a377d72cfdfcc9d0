// What was done with the moment that the player shows: how long it was watched, and whether it was
// skipped. docs/events.md says what these events mean.

const SKIP_SECONDS = 3; // a moment that is left sooner was skipped
const MIN_WATCHED_SECONDS = 0.5;

export class Visit {
  /** @param {(kind: string, hit: object, fields: object) => void} onevent */
  constructor(onevent) {
    this._onevent = onevent;
    this._moment = null;
    this._enteredAt = 0; // on the clock of `performance.now`
    this._isWanted = false;
  }

  /** A moment is shown from now on; of a video that is liked, none is skipped. */
  enter(moment, { isLiked }) {
    this._moment = moment;
    this._enteredAt = performance.now();
    this._isWanted = isLiked || moment.endSeconds <= 0; // a glance is enough for a picture
  }

  /** The user liked the moment, or asked for more of it: it is not skipped, however soon left. */
  want() {
    this._isWanted = true;
  }

  /** Reports seconds that were watched since the last report; false where they are too few. */
  watched(seconds) {
    if (!this._moment || seconds < MIN_WATCHED_SECONDS) return false;
    this._report("play", { watched_seconds: seconds });
    return true;
  }

  /** The user went on to something else, when the video was at this second. */
  leave(atSeconds) {
    if (!this._moment) return;
    const isSoon = performance.now() - this._enteredAt < 1000 * SKIP_SECONDS;
    const isOver = atSeconds >= this._moment.endSeconds;
    if (isSoon && !isOver && !this._isWanted) this._report("skip", {});
    this._moment = null;
  }

  _report(kind, fields) {
    const { hit, startSeconds, endSeconds } = this._moment;
    this._onevent(kind, hit, { start_seconds: startSeconds, end_seconds: endSeconds, ...fields });
  }
}
