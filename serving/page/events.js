// Tells the service what was shown, opened and watched, if the service keeps such events; see
// docs/events.md. Nothing is sent otherwise.

const DELAY_MS = 2000; // in which events are gathered into one request
const SEEN_MS = 1000; // that a hit has to be visible
const SEEN_SHARE = 0.5; // of its card
const SESSION_KEY = "reelseek.session";

/** Whether the service wrote into the page that it keeps events. */
export function keepsEvents() {
  return document.querySelector('meta[name="reelseek-events"]')?.content === "on";
}

export class Events {
  constructor(isOn = keepsEvents()) {
    this.isOn = isOn;
    this._waiting = [];
    this._timer = 0;
    this._requestId = undefined;
    this._seenTimers = new Map();
    this._watched = new Map(); // cards by the list that they are in
    this._isLeaving = false;
    if (!isOn) return;
    this._session = sessionPseudonym();
    this._observer = new IntersectionObserver((entries) => entries.forEach((entry) => this._onVisible(entry)), {
      threshold: SEEN_SHARE,
    });
    addEventListener("pagehide", () => {
      this._isLeaving = true;
      this._send();
    });
    addEventListener("pageshow", () => (this._isLeaving = false)); // it may come back
    document.addEventListener("visibilitychange", () => document.hidden && this._send());
  }

  /** What is reported from now on is about this answer. */
  searched(state, answer) {
    this._requestId = answer.request_id;
    this.watchesAnew("search");
    this.add("search", { query: state.q, num_hits: answer.hits.length });
  }

  /** The pseudonym that events are sent with; empty where none are. */
  get pseudonym() {
    return this._session ?? "";
  }

  /** The cards of a list are about to be replaced. */
  watchesAnew(surface) {
    for (const card of this._watched.get(surface) ?? []) {
      this._observer.unobserve(card);
      clearTimeout(this._seenTimers.get(card));
      this._seenTimers.delete(card);
    }
    this._watched.delete(surface);
  }

  /** Reports a hit once its card has been seen. */
  watchCard(card, hit) {
    if (!this.isOn) return;
    const surface = hit.surface ?? "search";
    this._watched.set(surface, [...(this._watched.get(surface) ?? []), card]);
    card.reportSeen = () => {
      const drawn = hit.propensity ? { propensity: hit.propensity } : {};
      this.addOfHit("impression", hit, drawn);
    };
    this._observer.observe(card);
  }

  /** @param {object} hit with `surface` and `request_id` where it is not of the last search */
  addOfHit(kind, hit, fields = {}) {
    const position = hit.rank ? { position: hit.rank, surface: hit.surface ?? "search" } : {};
    if (hit.request_id) position.request_id = hit.request_id;
    const { start_seconds: start, end_seconds: end, duration_seconds: duration } = hit;
    const isMoment = start > 0 || end < duration;
    const moment = isMoment ? { start_seconds: start, end_seconds: end } : {};
    this.add(kind, { video: hit.id, ...position, ...moment, ...fields });
  }

  add(kind, fields) {
    if (!this.isOn) return;
    this._waiting.push({
      ...{ kind, event_id: randomId(), time_seconds: Date.now() / 1000 },
      ...{ session: this._session, request_id: this._requestId, ...fields },
    });
    if (document.hidden || this._isLeaving) this._send();
    else this._timer ||= setTimeout(() => this._send(), DELAY_MS);
  }

  _onVisible({ target, isIntersecting }) {
    clearTimeout(this._seenTimers.get(target));
    if (!isIntersecting) return;
    const report = () => {
      target.reportSeen();
      this._observer.unobserve(target);
    };
    this._seenTimers.set(target, setTimeout(report, SEEN_MS));
  }

  /** Sends what waits; done when the service has it. */
  flush() {
    return this._send();
  }

  async _send() {
    clearTimeout(this._timer);
    this._timer = 0;
    const events = this._waiting.splice(0);
    if (!events.length) return;
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ events });
    // `keepalive` lets it end after the page has gone. What fails is lost: it is no user's concern.
    await fetch("/api/events", { method: "POST", headers, body, keepalive: true }).catch(() => {});
  }
}

/** A random name that lasts as long as this tab. */
function sessionPseudonym() {
  try {
    const known = sessionStorage.getItem(SESSION_KEY) ?? randomId();
    sessionStorage.setItem(SESSION_KEY, known);
    return known;
  } catch {
    return randomId(); // storage is switched off
  }
}

/** As `crypto.randomUUID`, which browsers lack over plain HTTP from other machines. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
