// The address of the page <-> what is searched for, and the video that is open.

const EMPTY = {
  q: "",
  level: "video",
  where: "",
  like: [],
  minConfidence: 0,
  pictures: 0, // how many pictures were part of the search: they are not in the address
  video: "", // id of the video that is open
  seconds: null, // where it was opened
};

/** @param {string} query the address from its question mark on */
export function readAddress(query) {
  const values = new URLSearchParams(query);
  const number = (name, low, high) => {
    const value = Number.parseFloat(values.get(name) ?? "");
    return Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : low;
  };
  return {
    ...EMPTY,
    q: (values.get("q") ?? "").trim(),
    level: values.get("level") === "moment" ? "moment" : "video",
    where: (values.get("where") ?? "").trim(),
    like: values.getAll("like").filter(Boolean),
    minConfidence: number("min_confidence", 0, 1),
    pictures: Math.round(number("pictures", 0, 4)),
    video: values.get("v") ?? "",
    seconds: values.has("t") ? number("t", 0, 1e7) : null,
  };
}

/** What a request to the API and the address have in common. */
export function searchParameters(state) {
  const values = new URLSearchParams();
  if (state.q) values.set("q", state.q);
  if (state.level !== EMPTY.level) values.set("level", state.level);
  if (state.where) values.set("where", state.where);
  for (const like of state.like) values.append("like", like);
  if (state.minConfidence) values.set("min_confidence", String(state.minConfidence));
  return values;
}

/** The address, from the root of the server on. */
export function writeAddress(state) {
  const values = searchParameters(state);
  if (state.pictures) values.set("pictures", String(state.pictures));
  if (state.video) {
    values.set("v", state.video);
    if (state.seconds != null) values.set("t", String(Math.round(state.seconds * 100) / 100));
  }
  const query = values.toString();
  return query ? `/?${query}` : "/";
}

export function asksSomething(state) {
  return Boolean(state.q || state.like.length || state.pictures || state.where);
}

/** A part of a search that is a video, or a moment of one: `ID` or `ID@START-END`. */
export function likeOf(id, startSeconds, endSeconds) {
  if (startSeconds == null) return id;
  return `${id}@${startSeconds.toFixed(2)}-${endSeconds.toFixed(2)}`;
}

export function readLike(like) {
  const [, id, start, end] = /^(.*?)(?:@([\d.]+)-([\d.]+))?$/.exec(like);
  if (start === undefined) return { id, startSeconds: null, endSeconds: null };
  return { id, startSeconds: Number(start), endSeconds: Number(end) };
}
