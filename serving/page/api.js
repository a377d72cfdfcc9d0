// Requests to the service.

import { searchParameters } from "./address.js";

export const PAGE_SIZE = 24;
const MAX_WAIT_SECONDS = 5;

/** What the service said is wrong, in words for people. */
export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Returns JSON. A busy server (503) is asked once more, when it said. */
async function requestJson(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await fetchFrom(path, options);
    if (response.ok) return response.json();
    if (response.status === 401) signIn();
    if (response.status !== 503 || attempt) throw await errorOf(response);
    const seconds = Number.parseFloat(response.headers.get("Retry-After") ?? "1") || 1;
    await pause(Math.min(seconds, MAX_WAIT_SECONDS), options.signal);
  }
}

/** The session has ended, or was never begun: the page that asks for a token comes back here. */
function signIn() {
  location.assign(`/login?${new URLSearchParams({ next: location.pathname + location.search })}`);
}

async function fetchFrom(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "The server does not answer. Is it still running?");
  }
}

async function errorOf(response) {
  const body = await response.json().catch(() => ({}));
  const message = body.error?.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(body.error?.code ?? String(response.status), message);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}

/**
 * Searches, with pictures as an upload.
 * @param {File[]} files
 * @param {string} user the pseudonym that events are sent with; empty for none
 */
export function search(state, { files = [], cursor = null, k = PAGE_SIZE, strip = true, user = "", signal }) {
  const values = searchParameters(state);
  values.set("k", String(k));
  if (strip) values.set("strip", "true");
  if (cursor) values.set("cursor", cursor);
  const whose = user ? new URLSearchParams({ user }) : null; // orders hits of like relevance
  if (whose && !files.length) values.set("user", user);
  if (!files.length) return requestJson(`/api/search?${values}`, { signal }).then(complete);
  const form = new FormData();
  if (values.has("like")) values.set("like", state.like.join(",")); // a form has each field once
  for (const [name, value] of values) form.append(name, value);
  for (const file of files) form.append(file.type.startsWith("video/") ? "video" : "image", file);
  return requestJson(whose ? `/api/search?${whose}` : "/api/search", { method: "POST", body: form, signal }).then(complete);
}

/** Without words nothing is analysed: then the service says nothing of filters and the like. */
function complete(answer) {
  const nothing = { filters: [], excluded: [], steps: [], corrections: [], entities: [] };
  return { ...answer, query: { ...nothing, ...answer.query } };
}

export function suggest(prefix, { signal }) {
  const values = new URLSearchParams({ prefix, k: "8" });
  return requestJson(`/api/suggest?${values}`, { signal });
}

/** What people search after a query. */
export function askedNext(query, { signal }) {
  const values = new URLSearchParams({ after: query, k: "8" });
  return requestJson(`/api/suggest?${values}`, { signal });
}

const records = new Map();

/** What the index says of a video; asked once. */
export function videoRecord(id) {
  if (!records.has(id)) {
    const record = requestJson(videoPath(id));
    record.catch(() => records.delete(id));
    records.set(id, record);
  }
  return records.get(id);
}

export function related(id, { startSeconds, endSeconds, signal }) {
  const values = new URLSearchParams({ k: "8" });
  if (startSeconds != null) {
    values.set("start_seconds", String(startSeconds));
    values.set("end_seconds", String(endSeconds));
  }
  return requestJson(`${videoPath(id)}/related?${values}`, { signal });
}

/** @param {string} user the pseudonym that events are sent with; empty for none */
export function forYou(user, { signal }) {
  const values = new URLSearchParams({ k: "12" });
  if (user) values.set("user", user);
  return requestJson(`/api/for-you?${values}`, { signal });
}

export function status() {
  return requestJson("/api/status");
}

function videoPath(id) {
  return `/api/videos/${encodeURIComponent(id)}`;
}

export function mediaPath(id) {
  return `${videoPath(id)}/media`;
}

export function clipPath(id, startSeconds, endSeconds) {
  const [start, end] = [startSeconds.toFixed(2), endSeconds.toFixed(2)];
  return `${videoPath(id)}/clip?start=${start}&end=${end}`;
}

export function thumbnailPath(id, seconds, width = 320) {
  return `${videoPath(id)}/thumbnail?at=${seconds.toFixed(2)}&width=${width}`;
}
