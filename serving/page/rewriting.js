// Takes back what a query was taken to mean: the phrase is put in quotes, which the service takes
// literally.
//
//   cats under 30 seconds          -> cats "under 30 seconds"
//   beach without people           -> beach "without people"
//   a door opens, then a cat runs  -> a door opens, "then" a cat runs
//   girafe                         -> "girafe"
//
// The cue of a negation is a word of any language, so several rewritings are offered, the smallest
// first; the caller takes the first that the service no longer reads as before.

const QUOTED = /"[^"\n]{1,200}"|「[^」\n]{1,200}」|『[^』\n]{1,200}』/gu;
const QUOTES = /["「」『』]/gu;
const MAX_QUOTED = 200; // characters that the service takes as one phrase
const MAX_WORDS_BEFORE = 3; // of a negation's cue: "without any of the"

/**
 * The rewritings of a query, the smallest first.
 * @param {{kind: string, phrase?: string, phrases?: string[], others?: string[]}} meaning of kind
 *   `filter` or `correction` (with the phrase as it was read), `excluded` (with what is not to be
 *   seen, and the others of that kind), or `steps` (with the events in order of time)
 */
export function* rewritings(text, meaning) {
  const seen = new Set([text]);
  // The service reads normalised text, in which full-width signs are ordinary ones.
  for (const version of [text, text.normalize("NFKC")]) {
    for (const rewritten of rewritingsOf(version, meaning)) {
      if (rewritten && !seen.has(rewritten)) {
        seen.add(rewritten);
        yield rewritten;
      }
    }
  }
  const whole = quoted(text);
  if (whole.length <= MAX_QUOTED + 2 && !seen.has(whole)) yield whole;
}

function* rewritingsOf(text, meaning) {
  if (meaning.kind === "steps") yield withoutOrder(text, meaning.phrases);
  else if (meaning.kind === "excluded") yield* withoutNegation(text, meaning);
  else yield quotedSpan(text, find(text, meaning.phrase));
}

/** Whether the service still reads the query so. */
export function isMeant(query, meaning) {
  if (meaning.kind === "steps") return query.steps.length > 0;
  if (meaning.kind === "excluded") return query.excluded.some((one) => one.includes(meaning.phrase));
  if (meaning.kind === "filter") return query.filters.some((one) => one.source === meaning.phrase);
  return query.corrections.some((one) => one.original === meaning.phrase);
}

function quoted(text) {
  return `"${text.replace(QUOTES, "").trim()}"`;
}

function quotedSpan(text, span) {
  if (!span) return "";
  const [start, end] = span;
  const phrase = text.slice(start, end);
  if (phrase.length > MAX_QUOTED) return "";
  return (text.slice(0, start) + quoted(phrase) + text.slice(end)).trim();
}

/** Where a phrase stands outside of quotes, as [start, end]; null if it does not. */
function find(text, phrase, from = 0) {
  const hasQuotes = phrase.search(QUOTES) >= 0;
  const open = hasQuotes ? text : text.replace(QUOTED, (match) => "\0".repeat(match.length));
  const pattern = phrase
    .trim()
    .replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")
    .replace(/\s+/g, "\\s+");
  // Whole words first, where a script puts blanks between them.
  for (const edges of [["(?<![\\p{L}\\p{N}])", "(?![\\p{L}\\p{N}])"], ["", ""]]) {
    const match = new RegExp(edges[0] + pattern + edges[1], "iu").exec(open.slice(from));
    if (match) return [from + match.index, from + match.index + match[0].length];
  }
  return null;
}

function* withoutNegation(text, { phrase, others = [] }) {
  const span = find(text, phrase);
  if (!span) {
    yield quotedSpan(text, find(text, `-"${phrase}"`));
    return;
  }
  const [start, end] = span;
  const before = text.slice(0, start);
  if (before.endsWith("-")) {
    yield quotedSpan(text, [start - 1, end]);
    return;
  }
  const joiner = /(?:,|\b(?:or|nor|and))\s*$/iu.exec(before);
  if (joiner && others.length) {
    // A later item of a list: in its place it would be read as part of the item before.
    yield `${quoted(phrase)} ${before.slice(0, joiner.index).trim()}${text.slice(end)}`;
  }
  let cue = start;
  for (let words = 0; words < MAX_WORDS_BEFORE && cue > 0; words += 1) {
    cue = before.slice(0, cue).search(/[^\s,;，、。"]+\s*$/u);
    if (cue < 0) break;
    yield withCueOfOthers(text, [cue, end], others);
  }
  // Cues that follow what they negate, or stand around it.
  const clause = /[,;，、。]/u.exec(text.slice(end));
  const clauseEnd = clause ? end + clause.index : text.length;
  yield quotedSpan(text, [start, clauseEnd]);
  const clauseStart = Math.max(...[...",;，、。"].map((sign) => before.lastIndexOf(sign))) + 1;
  yield quotedSpan(text, [clauseStart, clauseEnd]);
}

/** Of "without people or cars", cars stay left out when people are not any more. */
function withCueOfOthers(text, [start, end], others) {
  const rest = text.slice(end);
  const joined = /^\s*,?\s*(?:(?:or|nor|and)\s+)?/iu.exec(rest)[0];
  const isList = others.some((other) => rest.slice(joined.length).startsWith(other));
  if (!joined.trim() || !isList) return quotedSpan(text, [start, end]);
  return quotedSpan(`${text.slice(0, end)} without ${rest.slice(joined.length)}`, [start, end]);
}

/** Puts the words between the events, and before the first, in quotes: "then", "after". */
function withoutOrder(text, steps) {
  const spans = steps.map((step) => find(text, step)).filter(Boolean);
  if (spans.length !== steps.length) return "";
  spans.sort((one, other) => one[0] - other[0]);
  let rewritten = "";
  let position = 0;
  for (const [start, end] of spans) {
    const between = text.slice(position, start);
    rewritten += between.replace(/[\p{L}\p{N}][^,;，。]*[\p{L}\p{N}]|[\p{L}\p{N}]/u, quoted);
    rewritten += text.slice(start, end);
    position = end;
  }
  return rewritten + text.slice(position);
}
