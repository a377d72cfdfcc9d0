// Hits -> the moments that one can go to, in order.

const CONTEXT_SECONDS = 2; // on each side of the best second, where no strip says what belongs to it
const SHARE_OF_BEST = 0.6; // a part that is this probable, beside the best, is a moment too
const SAME_SECONDS = 0.05;

/**
 * The moments of one hit, in order of time: itself, or for a whole video the stretches of its strip
 * that match nearly as well as the best one.
 * @returns {{hit: object, startSeconds: number, endSeconds: number, probability: number | null}[]}
 */
export function momentsOf(hit, level) {
  if (level === "moment") {
    return [momentOf(hit, hit.start_seconds, hit.end_seconds, hit.confidence)];
  }
  const parts = partsOf(hit.strip);
  const best = parts.reduce((highest, part) => Math.max(highest, part.probability), 0);
  const moments = [];
  for (const { start, end, probability } of parts) {
    const last = moments.at(-1);
    if (!best || probability < SHARE_OF_BEST * best) continue;
    if (last && start <= last.endSeconds + SAME_SECONDS) {
      last.endSeconds = end;
      last.probability = Math.max(last.probability, probability);
    } else {
      moments.push(momentOf(hit, start, end, probability));
    }
  }
  if (moments.some((moment) => isInside(hit.best_seconds, moment))) return moments;
  const around = momentOf(
    hit,
    Math.max(0, hit.best_seconds - CONTEXT_SECONDS),
    Math.min(hit.duration_seconds, hit.best_seconds + CONTEXT_SECONDS),
    hit.confidence,
  );
  return [...moments, around].sort((one, other) => one.startSeconds - other.startSeconds);
}

/**
 * The segments of a strip, which may overlap, as parts that do not; where several segments overlap a
 * part is as probable as they are on average, so that the edge of a moment is sharp.
 * @returns {{start: number, end: number, probability: number}[]}
 */
export function partsOf(strip) {
  const spans = strip?.spans ?? [];
  const probabilities = strip?.probabilities ?? []; // null where the index cannot tell
  const changes = spans.flatMap(([start, end], i) => [
    { at: start, count: 1, sum: probabilities[i] ?? 0 },
    { at: end, count: -1, sum: -(probabilities[i] ?? 0) },
  ]);
  changes.sort((one, other) => one.at - other.at);
  const parts = [];
  let [start, count, sum] = [0, 0, 0];
  for (const change of changes) {
    if (count > 0 && change.at > start + 1e-6) {
      parts.push({ start, end: change.at, probability: Math.max(0, sum / count) });
    }
    start = change.at;
    count += change.count;
    sum += change.sum;
  }
  return parts;
}

function momentOf(hit, startSeconds, endSeconds, probability) {
  return { hit, startSeconds, endSeconds, probability };
}

function isInside(seconds, { startSeconds, endSeconds }) {
  return seconds >= startSeconds - SAME_SECONDS && seconds < endSeconds + SAME_SECONDS;
}

/** The moment that a hit is shown by. */
export function bestMoment(hit, level) {
  return momentAt(momentsOf(hit, level), hit.best_seconds);
}

/** The moment that contains a second, else the nearest; null of none. */
export function momentAt(moments, seconds) {
  const distance = ({ startSeconds, endSeconds }) =>
    Math.max(startSeconds - seconds, seconds - endSeconds, 0);
  let nearest = null;
  for (const moment of moments) {
    // Of two that touch, the later one begins at this second.
    if (!nearest || distance(moment) <= distance(nearest)) nearest = moment;
  }
  return nearest;
}

/** All moments: videos in order of their first hit, and within each in order of time. */
export function allMoments(hits, level) {
  const byVideo = new Map();
  for (const hit of hits) {
    const moments = byVideo.get(hit.id) ?? [];
    byVideo.set(hit.id, [...moments, ...momentsOf(hit, level)]);
  }
  return [...byVideo.values()].flatMap((moments) =>
    moments.sort((one, other) => one.startSeconds - other.startSeconds),
  );
}

/** The moment before (-1) or after (1) another one, or null at either end. */
export function neighbour(moments, { hit, startSeconds }, step) {
  const index = moments.findIndex(
    (one) => one.hit.id === hit.id && Math.abs(one.startSeconds - startSeconds) < SAME_SECONDS,
  );
  return index < 0 ? (moments[0] ?? null) : (moments[index + step] ?? null);
}
