// Which videos are liked, and the hearts that show and change it. There are none unless the service
// keeps events. Likes are remembered as long as the pseudonym that they are sent with: in this tab.

import { element, icon } from "./dom.js";

const KEY = "reelseek.likes";

export class Likes {
  /** @param {Events} events that the likes are sent with */
  constructor(events) {
    this._events = events;
    this._ids = new Set(load());
  }

  has(id) {
    return this._ids.has(id);
  }

  /** A heart for a video; null where the service keeps no events. */
  button(hit, attributes, ...children) {
    if (!this._events.isOn) return null;
    const state = { type: "button", "data-liked": hit.id, "aria-pressed": String(this.has(hit.id)) };
    const onclick = () => this.toggle(hit);
    return element("button", { ...state, onclick, ...attributes }, icon("heart"), ...children);
  }

  /**
   * Likes a video, or takes that back.
   * @param {object} fields of the event, such as the moment that is open
   * @returns {boolean | null} whether it is liked now; null where the service keeps no events
   */
  toggle(hit, fields = {}) {
    if (!this._events.isOn) return null;
    const liked = !this.has(hit.id);
    if (liked) this._ids.add(hit.id);
    else this._ids.delete(hit.id);
    keep([...this._ids]);
    this._events.addOfHit("like", hit, { ...fields, liked });
    for (const heart of document.querySelectorAll("[data-liked]")) {
      if (heart.dataset.liked === hit.id) heart.setAttribute("aria-pressed", String(liked));
    }
    return liked;
  }
}

function load() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((id) => typeof id === "string") : [];
  } catch {
    return []; // damaged, or storage is switched off
  }
}

function keep(ids) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(ids));
  } catch {
    // Full, or switched off: then they last as long as the page.
  }
}
