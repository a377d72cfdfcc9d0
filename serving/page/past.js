// Past searches, kept in this browser only.

const KEY = "reelseek.searches";
const MAX_KEPT = 50;

function load() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept.filter((text) => typeof text === "string") : [];
  } catch {
    return []; // damaged, or storage is switched off
  }
}

/** Those that contain the typed text, the latest first. */
export function pastSearches(typed, count) {
  const wanted = typed.trim().toLowerCase();
  const isNew = (text) => text.toLowerCase() !== wanted && text.toLowerCase().includes(wanted);
  return load().filter(isNew).slice(0, count);
}

export function hasPastSearches() {
  return load().length > 0;
}

export function keepSearch(text) {
  if (!text) return;
  const kept = [text, ...load().filter((other) => other !== text)].slice(0, MAX_KEPT);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // Full, or switched off: then none are kept.
  }
}

export function forgetSearches() {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // Switched off: there are none.
  }
}
