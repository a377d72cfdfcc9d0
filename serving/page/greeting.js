// What the library holds and what is being indexed, on the page before a search.

import { ApiError, status } from "./api.js";
import { plural, timeLeft } from "./format.js";

const PERIOD_MS = 5000;
const READY_PERIOD_MS = 1000; // between two attempts while the service gets ready

export class Greeting {
  /**
   * @param {HTMLElement} text
   * @param {HTMLElement} link to the page of the status
   * @param {() => void} onready called whenever the library can be searched
   */
  constructor(text, link, onready) {
    this._text = text;
    this._link = link;
    this._onready = onready;
    this._timer = 0;
  }

  async refresh() {
    clearTimeout(this._timer);
    const found = await status().catch((error) => error);
    if (found instanceof ApiError) {
      if (found.code !== "not_ready") return;
      this._text.textContent = "Getting ready …";
      this._timer = setTimeout(() => this.refresh(), READY_PERIOD_MS);
      return;
    }
    const { indexing, videos } = found;
    const isRunning = indexing?.state === "running";
    const left = indexing?.seconds_left == null ? "" : `, ${timeLeft(indexing.seconds_left)} left`;
    this._text.textContent = `${plural(videos, "video")} to search${
      isRunning ? ` · indexing ${indexing.done} of ${indexing.total}${left}` : ""
    }`;
    this._link.classList.toggle("running", isRunning);
    this._onready();
    if (isRunning && !document.hidden) this._timer = setTimeout(() => this.refresh(), PERIOD_MS);
  }
}
