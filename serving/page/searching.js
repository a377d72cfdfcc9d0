// Runs one search at a time: a new one aborts the one before.

import { search } from "./api.js";

const SPINNER_DELAY_MS = 200;

export class Searching {
  /** @param {(isBusy: boolean) => void} onbusy called only where an answer takes long */
  constructor(onbusy) {
    this._onbusy = onbusy;
    this._request = null;
  }

  /** Returns the answer; null where a newer search has taken its place. */
  async run(state, options = {}) {
    this.abort();
    const request = new AbortController();
    this._request = request;
    const timer = setTimeout(() => this._onbusy(true), SPINNER_DELAY_MS);
    try {
      const answer = await search(state, { ...options, signal: request.signal });
      return request.signal.aborted ? null : answer;
    } catch (error) {
      if (request.signal.aborted) return null;
      throw error;
    } finally {
      clearTimeout(timer);
      if (this._request === request) this._onbusy(false);
    }
  }

  abort() {
    this._request?.abort();
  }
}
