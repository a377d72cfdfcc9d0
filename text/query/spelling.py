"""Corrects words that are certainly misspelt.

A word is corrected if wordfreq does not know it (or only as a rare misspelling), the catalogue does
not have it, it is in lower case, it is not two joined words, and one common word is a small edit
away. Words in doubt and words in quotes stay.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import regex

from reelseek.text.query.quoting import SIGN

_INSTALL = "pip install '.[query]'"

# Languages with blanks between words that wordfreq knows well; not Vietnamese, where each syllable
# is one letter away from another.
LANGUAGES = frozenset(
    "en de es fr it nl pt sv nb da fi pl cs sk sl hu ro ca tr id ru uk bg el".split()
)
_TOP_WORDS = 40_000  # of a language, as possible corrections
_YIELD_EVERY = 16  # words
_MIN_LETTERS = 4
_LETTERS_FOR_TWO = 8  # of a word that may have two edits
_UNKNOWN_ZIPF = 1.6  # rarer words (one in 25 million) are misspellings
_COMMON_ZIPF = 3.3  # minimum for a correction
_COMMON_ZIPF_OF_UNKNOWN = 3.0  # the same, if wordfreq has never seen the word
_MIN_RATIO = 8.0  # of the frequencies of the best and the second candidate
_CATALOGUE_COUNT = 1_000_000  # words of the catalogue count as frequent words

_ENDINGS = frozenset("s es ed er d y ing ly".split())

_WORD = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}\p{{N}}_#@:/.'&\-])\p{{Ll}}+(?![\p{{L}}\p{{M}}\p{{N}}_@:/'\-]|\.\w|"
    rf"{SIGN})"
)


@dataclass(frozen=True)
class Correction:
    """A word of the query and its correction."""

    original: str
    corrected: str


@dataclass(frozen=True)
class _Candidate:
    term: str
    distance: int
    count: int


class SpellChecker:
    """Corrects misspelt words.

    Args:
        vocabulary: Words of the catalogue with their counts, casefolded; never corrected.
        languages: Expected languages; words of any of them are not corrected.
    """

    def __init__(self, vocabulary: Mapping[str, int], *, languages: Collection[str]) -> None:
        self._vocabulary = vocabulary
        self._languages = tuple(code for code in languages if code in LANGUAGES)
        self._catalogue: Any = None  # a dictionary, made when first needed

    def correct(
        self, text: str, *, language: str, keep: Collection[tuple[int, int]] = ()
    ) -> tuple[str, tuple[Correction, ...]]:
        """Corrects a normalised text.

        Args:
            text: The text.
            language: ISO 639-1 code.
            keep: Spans that stay unchanged, such as names.

        Returns:
            The corrected text and the corrections.
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
        """Returns a warning, with its remedy, if this text needs a missing package; else None."""
        if language not in LANGUAGES or not _WORD.search(text):
            return None
        names = [name for name, load in _NEEDED if load() is None]
        if not names:
            return None
        return f"spelling: {' and '.join(names)} is not installed: {_INSTALL}"

    @property
    def is_loaded(self) -> bool:
        """Whether the catalogue's dictionary has been made."""
        return self._catalogue is not None

    def load(self) -> None:
        """Makes the dictionaries of the catalogue and of the expected languages, which the first
        word in doubt would wait for."""
        if _symspell() is None or _wordfreq() is None:
            return
        for language in self._languages:
            _dictionary_of_language(language)
        if self._catalogue is None:
            self._catalogue = _dictionary_of(
                (word, min(count, 1000) * _CATALOGUE_COUNT // 1000)
                for word, count in self._vocabulary.items()
                if word.isalpha()
            )

    def _better(self, word: str, language: str) -> str | None:
        symspell = _symspell()
        if symspell is None or len(word) < _MIN_LETTERS or self._is_known(word, language):
            return None
        if _is_joined(word, language):
            return None
        max_edits = 2 if len(word) >= _LETTERS_FOR_TWO else 1
        found = self._nearest(word, language, max_edits)
        if not found or (found[0].term[0] != word[0] and found[0].distance > 1):
            return None
        best = found[0]
        others = [one for one in found[1:] if not _is_inflection(one.term, best.term)]
        if others and best.count < _MIN_RATIO * others[0].count:
            return None
        min_zipf = _COMMON_ZIPF if _zipf(word, language) else _COMMON_ZIPF_OF_UNKNOWN
        is_common = best.term in self._vocabulary or _zipf(best.term, language) >= min_zipf
        return best.term if is_common and not _is_inflection(word, best.term) else None

    def _is_known(self, word: str, language: str) -> bool:
        if word in self._vocabulary:
            return True
        return any(
            _zipf(word, code) >= _UNKNOWN_ZIPF
            for code in dict.fromkeys((language, *self._languages))
        )

    def _nearest(self, word: str, language: str, max_edits: int) -> list[_Candidate]:
        """Returns the words with the fewest edits, of the language and of the catalogue, those that
        are used most first."""
        symspell = _symspell()
        assert symspell is not None
        _, verbosity = symspell
        self.load()
        counts: dict[str, int] = {}
        distances: dict[str, int] = {}
        for dictionary in (_dictionary_of_language(language), self._catalogue):
            for one in dictionary.lookup(
                word, verbosity.CLOSEST, max_edit_distance=max_edits, transfer_casing=False
            ):
                counts[one.term] = counts.get(one.term, 0) + one.count
                distances[one.term] = one.distance
        nearest = min(distances.values(), default=0)
        found = [
            _Candidate(term, nearest, count)
            for term, count in counts.items()
            if distances[term] == nearest
        ]
        return sorted(found, key=lambda one: -one.count)


def _is_inflection(word: str, other: str) -> bool:
    """Whether two words differ in an ending, such as "quadcopter" and "quadcopters"."""
    short, long = sorted((word, other), key=len)
    return long.startswith(short) and long[len(short) :] in _ENDINGS


def _is_joined(word: str, language: str) -> bool:
    """Whether the word consists of two common words: "streetfood"."""
    return any(
        min(_zipf(word[:i], language), _zipf(word[i:], language)) >= _COMMON_ZIPF
        for i in range(_MIN_LETTERS, len(word) - _MIN_LETTERS + 1)
    )


@cache
def _dictionary_of_language(language: str) -> Any:
    """Made in a second or two, and the same for all catalogues."""
    import wordfreq as frequencies

    return _dictionary_of(
        (word, round(frequencies.word_frequency(word, language) * 1e9))
        for word in frequencies.top_n_list(language, _TOP_WORDS)
        if word.isalpha() and len(word) >= _MIN_LETTERS - 1
    )


def _dictionary_of(counts: Iterable[tuple[str, int]]) -> Any:
    from symspellpy import SymSpell

    dictionary = SymSpell(max_dictionary_edit_distance=2, prefix_length=5)
    for number, (word, count) in enumerate(counts):
        if number % _YIELD_EVERY == 0:
            time.sleep(0)  # lets other threads run: a service makes this beside searches
        dictionary.create_dictionary_entry(word, count)
    return dictionary


@lru_cache(maxsize=20_000)
def _zipf(word: str, language: str) -> float:
    frequencies = _wordfreq()
    try:
        return float(frequencies.zipf_frequency(word, language)) if frequencies else 0.0
    except LookupError:  # an unknown language
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
