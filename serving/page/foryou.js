// The start page's videos: for this visit, as far as the service keeps what was watched in it, and
// else what is new and unlike each other.

import { forYou } from "./api.js";
import { createCard } from "./card.js";
import { element } from "./dom.js";

const SURFACE = "for_you";

export class ForYou {
  /**
   * @param {HTMLElement} section
   * @param {object} options
   * @param {Events} options.events
   * @param {Likes} options.likes
   * @param {(hit: object, seconds: number) => void} options.onopen
   * @param {(like: string) => void} options.onsimilar more like this is asked for
   */
  constructor(section, options) {
    this._section = section;
    this._options = options;
    this._request = null;
  }

  get isShown() {
    return this._section.childElementCount > 0;
  }

  /** Asks anew, as what has been watched meanwhile is not shown again. */
  async refresh(state) {
    this._request?.abort();
    const request = new AbortController();
    this._request = request;
    const { events } = this._options;
    await events.flush();
    const answer = await forYou(events.pseudonym, { signal: request.signal }).catch(() => null);
    if (request.signal.aborted) return;
    this._section.replaceChildren();
    if (answer?.hits.length) this._show(answer, state);
  }

  hide() {
    this._request?.abort();
    this._section.replaceChildren();
  }

  _show(answer, state) {
    const { events, likes, onopen, onsimilar } = this._options;
    events.watchesAnew(SURFACE);
    const cards = answer.hits.map((each) => {
      const hit = { ...each, surface: SURFACE, request_id: answer.request_id };
      const card = createCard(hit, { state, asked: "", isWhole: true, onopen, onsimilar, likes });
      events.watchCard(card, hit);
      return card;
    });
    this._section.append(
      element("h2", { id: "for-you-title" }, events.isOn ? "For you" : "Have a look"),
      element("ol", { class: "hits", "aria-labelledby": "for-you-title" }, ...cards),
    );
  }
}
