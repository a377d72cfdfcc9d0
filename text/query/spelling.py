"""A sentence -> the words in it that are surely misspelt, corrected.

A word is corrected where nobody is likely to have meant it: wordfreq does not know it (or so rarely
that it is one of the misspellings which its sources hold), the catalogue and its names do not have
it, it is written in small letters, it is no two words joined, and one common word is a slip of the
finger away. Anything in doubt stays. Words in quotes stay.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import regex

from reelseek.text.query.quoting import SIGN

_INSTALL = "pip install '.[query]'"

# Languages whose words stand between blanks and that wordfreq knows well; not Vietnamese, of which
# any syllable is one letter away from another.
LANGUAGES = frozenset(
    "en de es fr it nl pt sv nb da fi pl cs sk sl hu ro ca tr id ru uk bg el".split()
)
_TOP_WORDS = 40_000  # of a language, to correct to
_MIN_LETTERS = 4
_LETTERS_FOR_TWO = 8  # of a word in which two slips are believed
_UNKNOWN_ZIPF = 1.6  # below it are the misspellings: one word in 25 million
_COMMON_ZIPF = 3.3  # of what a word is corrected to
_WELL_KNOWN_ZIPF = 3.0  # the same, for a word that is not known at all
_CLEARLY = 8.0  # times as frequent as the next candidate
_IN_CATALOGUE = 1_000_000  # counts as much as a frequent word

_WORD = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}\p{{N}}_#@:/.'&\-])\p{{Ll}}+(?![\p{{L}}\p{{M}}\p{{N}}_@:/'\-]|\.\w|"
    rf"{SIGN})"
)


@dataclass(frozen=True)
class Correction:
    """A word of the query and what was searched for instead."""

    original: str
    corrected: str


class SpellChecker:
    """Corrects misspelt words.

    Args:
        vocabulary: words of the catalogue with their counts, casefolded: always right.
        languages: those in use; a word that any of them knows is right.
    """

    def __init__(self, vocabulary: Mapping[str, int], *, languages: Collection[str]) -> None:
        self._vocabulary = vocabulary
        self._languages = tuple(code for code in languages if code in LANGUAGES)
        self._dictionaries: dict[str, Any] = {}

    def correct(
        self, text: str, *, language: str, keep: Collection[tuple[int, int]] = ()
    ) -> tuple[str, tuple[Correction, ...]]:
        """Corrects a normalised text.

        Args:
            keep: spans in which nothing is changed, such as names.
        """
        if language not in LANGUAGES or _wordfreq() is None:
            return text, ()
        corrections = []
        pieces = []
        position = 0
        for match in _WORD.finditer(text):
            start, end = match.span()
            if any(start < kept_end and end > kept_start for kept_start, kept_end in keep):
                continue
            better = self._better(match[0], language)
            if better is not None:
                corrections.append(Correction(match[0], better))
                pieces += [text[position:start], better]
                position = end
        return "".join([*pieces, text[position:]]), tuple(dict.fromkeys(corrections))

    def missing(self, text: str, *, language: str) -> str | None:
        """What is lacking to correct this text: a line with its remedy, or None."""
        if language not in LANGUAGES or not _WORD.search(text):
            return None
        names = [name for name, load in _NEEDED if load() is None]
        if not names:
            return None
        return f"spelling: {' and '.join(names)} is not installed: {_INSTALL}"

    def _better(self, word: str, language: str) -> str | None:
        symspell = _symspell()
        if symspell is None or len(word) < _MIN_LETTERS or self._is_known(word, language):
            return None
        if _is_joined(word, language):
            return None
        slips = 2 if len(word) >= _LETTERS_FOR_TWO else 1
        _, verbosity = symspell
        found = self._dictionary(language).lookup(
            word, verbosity.CLOSEST, max_edit_distance=slips, transfer_casing=False
        )
        if not found or (found[0].term[0] != word[0] and found[0].distance > 1):
            return None
        best = found[0]
        others = [one for one in found[1:] if not _is_inflection(one.term, best.term)]
        if others and best.count < _CLEARLY * others[0].count:
            return None
        min_zipf = _COMMON_ZIPF if _zipf(word, language) else _WELL_KNOWN_ZIPF
        is_common = best.term in self._vocabulary or _zipf(best.term, language) >= min_zipf
        return best.term if is_common and not _is_inflection(word, best.term) else None

    def _is_known(self, word: str, language: str) -> bool:
        if word in self._vocabulary:
            return True
        return any(
            _zipf(word, code) >= _UNKNOWN_ZIPF
            for code in dict.fromkeys((language, *self._languages))
        )

    def _dictionary(self, language: str) -> Any:
        if language not in self._dictionaries:
            self._dictionaries[language] = self._built(language)
        return self._dictionaries[language]

    def _built(self, language: str) -> Any:
        import wordfreq as frequencies
        from symspellpy import SymSpell

        dictionary = SymSpell(max_dictionary_edit_distance=2, prefix_length=5)
        for word in frequencies.top_n_list(language, _TOP_WORDS):
            if word.isalpha() and len(word) >= _MIN_LETTERS - 1:
                count = round(frequencies.word_frequency(word, language) * 1e9)
                dictionary.create_dictionary_entry(word, count)
        for word, count in self._vocabulary.items():
            if word.isalpha():
                dictionary.create_dictionary_entry(word, min(count, 1000) * _IN_CATALOGUE // 1000)
        return dictionary


def _is_inflection(word: str, other: str) -> bool:
    """Whether the two differ in an ending: "quadcopters" is right where "quadcopter" is."""
    short, long = sorted((word, other), key=len)
    return long.startswith(short) and long[len(short) :] in (
        "s",
        "es",
        "ed",
        "er",
        "d",
        "y",
        "ing",
        "ly",
    )


def _is_joined(word: str, language: str) -> bool:
    """Whether two common words are written as one: "streetfood"."""
    return any(
        min(_zipf(word[:i], language), _zipf(word[i:], language)) >= _COMMON_ZIPF
        for i in range(_MIN_LETTERS, len(word) - _MIN_LETTERS + 1)
    )


@lru_cache(maxsize=20_000)
def _zipf(word: str, language: str) -> float:
    frequencies = _wordfreq()
    try:
        return float(frequencies.zipf_frequency(word, language)) if frequencies else 0.0
    except LookupError:  # a language that it does not know
        return 0.0


@lru_cache(maxsize=1)
def _wordfreq() -> Any | None:
    try:
        import wordfreq
    except ImportError:
        return None
    return wordfreq


@lru_cache(maxsize=1)
def _symspell() -> Any | None:
    try:
        from symspellpy import SymSpell, Verbosity
    except ImportError:
        return None
    return SymSpell, Verbosity


_NEEDED = (("wordfreq", _wordfreq), ("symspellpy", _symspell))
