// What stands beside the video in the player: its name, the reason, what one can do, related videos.

import { likeOf, writeAddress } from "./address.js";
import { clipPath, related, thumbnailPath } from "./api.js";
import { probabilityOf, reasonsOf } from "./card.js";
import { element, icon } from "./dom.js";
import { clock, day, span, videoName } from "./format.js";

const SURFACE = "related";
const MAX_CLIP_SECONDS = 60; // that the service cuts

export class Details {
  /**
   * @param {HTMLElement} node
   * @param {object} listener
   * @param {() => void} listener.oncopy
   * @param {(like: string) => void} listener.onsimilar more like this is asked for
   * @param {(hit: object, seconds: number) => void} listener.onopen a related video was chosen
   * @param {Events} listener.events
   * @param {(hit: object) => HTMLElement | null} listener.heart a button to like it
   */
  constructor(node, listener) {
    this._node = node;
    this._listener = listener;
    this._request = null;
    this._spanText = element("p", { class: "span" });
    this._actions = element("div", { class: "actions" });
    this._related = element("div", { class: "related" });
    this.showNothing();
  }

  /** Until something is known of the video, or if nothing is. */
  showNothing() {
    this._node.replaceChildren(element("h2", { id: "player-title" }, "Video"));
  }

  show(record, hit, asked) {
    const file = hit.video === videoName(hit) ? "" : hit.video; // which then says nothing new
    const facts = [record.date && day(record.date), file].filter(Boolean);
    this._node.scrollTop = 0;
    this._node.replaceChildren(
      element("h2", { id: "player-title" }, videoName(hit)),
      this._spanText,
      ...(hit.evidence.length || hit.reasons ? [reasonsOf(hit, asked)] : []),
      element("p", { class: "facts" }, facts.join(" · ")),
      this._actions,
      this._related,
    );
  }

  showMoment({ hit, startSeconds, endSeconds, probability }) {
    const isTimed = endSeconds > 0; // a picture has no seconds
    const match = probabilityOf({ confidence: probability ?? hit.confidence });
    this._spanText.replaceChildren(isTimed ? span(startSeconds, endSeconds) : "", match ?? "");
    const similar = (value) => () => this._listener.onsimilar(value);
    const actions = [action("link", "Copy link to this moment", this._listener.oncopy)];
    if (isTimed) {
      const name = `${videoName(hit)} ${clock(startSeconds).replaceAll(":", ".")}.mp4`;
      const end = Math.min(endSeconds, startSeconds + MAX_CLIP_SECONDS);
      const href = clipPath(hit.id, startSeconds, end);
      const moment = likeOf(hit.id, startSeconds, endSeconds);
      actions.push(
        element("a", { class: "action", href, download: name }, icon("download"), "Download this clip"),
        action("similar", "More like this moment", similar(moment)),
      );
    }
    actions.push(action("similar", "More like this video", similar(likeOf(hit.id))));
    const heart = this._listener.heart(hit);
    this._actions.replaceChildren(...(heart ? [heart] : []), ...actions);
  }

  /** @param {object} state what was searched for, which the addresses of related videos keep */
  async showRelated({ hit, startSeconds, endSeconds, isWhole }, state) {
    this._request?.abort();
    this._request = new AbortController();
    this._related.replaceChildren();
    const { signal } = this._request;
    const times = endSeconds > 0 && !isWhole ? { startSeconds, endSeconds } : {};
    const answer = await related(hit.id, { ...times, signal }).catch(() => null);
    const others = answer?.hits.filter((other) => other.id !== hit.id) ?? [];
    if (signal.aborted || !others.length) return;
    const { events } = this._listener;
    events.watchesAnew(SURFACE);
    const items = others.map((other) => {
      const related = { ...other, surface: SURFACE, request_id: answer.request_id };
      const item = this._relatedItem(related, state);
      events.watchCard(item, related);
      return item;
    });
    this._related.replaceChildren(element("h3", {}, "Related"), element("ul", {}, ...items));
  }

  _relatedItem(hit, state) {
    const seconds = hit.best_seconds;
    const href = writeAddress({ ...state, video: hit.id, seconds });
    const onclick = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return; // into a new tab or window
      event.preventDefault();
      this._listener.onopen(hit, seconds);
    };
    const size = { width: "160", height: "90", loading: "lazy" };
    const image = element("img", { src: thumbnailPath(hit.id, seconds, 240), alt: "", ...size });
    const reason = element("span", { class: "reason" }, hit.reasons?.[0] ?? "");
    return element("li", {}, element("a", { href, onclick }, image, element("span", {}, videoName(hit)), reason));
  }
}

function action(name, label, onclick) {
  return element("button", { class: "action", type: "button", onclick }, icon(name), label);
}
