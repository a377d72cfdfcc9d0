// What people also search, below the hits of a search.

import { askedNext } from "./api.js";
import { element } from "./dom.js";

export class AskedNext {
  /**
   * @param {HTMLElement} place
   * @param {(text: string) => void} onchoose
   */
  constructor(place, onchoose) {
    this._place = place;
    this._onchoose = onchoose;
    this._request = null;
  }

  hide() {
    this._request?.abort();
    this._place.hidden = true;
  }

  /** Shows what is searched after a query, where enough people asked something after it. */
  async refresh(query) {
    this.hide();
    if (!query) return;
    this._request = new AbortController();
    const { signal } = this._request;
    let found = [];
    try {
      found = (await askedNext(query, { signal })).suggestions;
    } catch {
      return; // the hits stand without it
    }
    if (signal.aborted || !found.length) return;
    this._place.replaceChildren(
      element("h2", {}, "People also search"),
      element("ul", {}, ...found.map(({ text }) => element("li", {}, this._link(text)))),
    );
    this._place.hidden = false;
  }

  _link(text) {
    const onclick = (event) => {
      if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return; // another tab
      event.preventDefault();
      this._onchoose(text);
    };
    return element("a", { class: "pill", href: `/?${new URLSearchParams({ q: text })}`, onclick }, text);
  }
}
