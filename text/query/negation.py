"""Takes out of a sentence what must not be seen.

    "beach without people"  -> "beach", ("people",)
    人のいないビーチ           -> ビーチ, (人,)

Idioms ("no parking sign", 믿을 수 없는), words that look like a negation (無人機, không gian),
hyphens within words and dashes do not count as negations.
"""

from collections.abc import Iterator
from typing import NamedTuple

import regex

from reelseek.text.query.constraints import CUT
from reelseek.text.query.grammars import chinese, english, japanese, korean, thai, vietnamese
from reelseek.text.query.grammars.base import compiled
from reelseek.text.query.quoting import SIGN

_GRAMMARS = {
    "en": english.NEGATION,
    "zh": chinese.NEGATION,
    "ja": japanese.NEGATION,
    "ko": korean.NEGATION,
    "th": thai.NEGATION,
    "vi": vietnamese.NEGATION,
}
# Languages whose patterns misread a language: they share Han characters, or the word "no".
_EXCLUDES = {"zh": {"ja"}, "ja": {"zh"}, "vi": {"en"}}

# A minus before a word excludes it in any language.
_MINUS = (
    rf"(?:(?<=\s)|^)-(?P<not_seen>{SIGN}|\p{{L}}[\p{{L}}\p{{M}}\p{{N}}'_\-]*)"
    rf"(?![\p{{L}}\p{{N}}\-])"
)
_DETERMINER = regex.compile(
    r"^(?:an?|the|any|some|other|bất kỳ|các|những|任何)\s+|^任何", regex.IGNORECASE
)
# The rest of a clause that was cut: "a man who is", "but", a comma before nothing.
_DANGLING = regex.compile(
    rf"(?<!\s)\s++(?:who|that|which)(?: (?:is|are))?\s*(?={CUT}|$)"
    rf"|(?<![\s,])[\s,]++(?:but|and|with|nhưng|mà)\s*(?={CUT}|$)",
    regex.IGNORECASE,
)


class _Match(NamedTuple):
    start: int
    end: int
    phrases: tuple[str, ...]


def lift_negations(text: str, *, language: str = "en") -> tuple[str, tuple[str, ...]]:
    """Takes negated phrases out of a normalised sentence.

    Args:
        text: The sentence.
        language: ISO 639-1 code. The patterns of all languages apply, except those that misread
            this language.

    Returns:
        The text with `CUT` in place of each negation, and the phrases in order.
    """
    matches: list[_Match] = []
    for code, grammar in _GRAMMARS.items():
        if code not in _EXCLUDES.get(language, ()) and compiled(grammar.hint).search(text):
            for pattern in grammar.patterns:
                matches += _matches(text, pattern, grammar.separator, has_titles=code == "en")
    matches += _matches(text, _MINUS)
    kept: list[_Match] = []
    for match in sorted(matches, key=lambda one: (one.start, -one.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
    for match in reversed(kept):
        text = text[: match.start] + CUT + text[match.end :]
    if kept:
        text = _DANGLING.sub("", text)
    return text, tuple(dict.fromkeys(phrase for match in kept for phrase in match.phrases))


def _matches(
    text: str, pattern: str, separator: str | None = None, *, has_titles: bool = False
) -> Iterator[_Match]:
    for match in compiled(pattern).finditer(text):
        if has_titles and _is_title(match):
            continue
        not_seen = match["not_seen"]
        parts = compiled(separator).split(not_seen) if separator else [not_seen]
        phrases = tuple(_DETERMINER.sub("", part.strip(" ,")) for part in parts)
        if all(phrases):
            yield _Match(match.start(), match.end(), phrases)


def _is_title(match: regex.Match[str]) -> bool:
    """Whether the negation is part of a title: "No Time to Die", "The House With No Name"."""
    cue = match.string[match.start() : match.start("not_seen")].strip(" ,")
    return match["not_seen"][:1].isupper() and cue.split()[-1][:1].isupper() and not cue.isupper()
