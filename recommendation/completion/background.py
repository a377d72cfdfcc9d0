"""How common words and pairs of words are in English at large, from packages of the extra `query`:
wordfreq's frequencies, and the pairs that symspellpy brings with it."""

from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

MAX_WORDS = 50_000
_MIN_KNOWN = 0.5  # of the words of a log that English must know, or there is no background
_PAIRS_FILE = "frequency_bigramdictionary_en_243_342.txt"


def background_words(words: Iterable[str]) -> dict[str, float]:
    """Returns the frequencies of the most common words; none where a log is not in English, or
    wordfreq is not installed.

    Args:
        words: of the log, each as often as it occurs.
    """
    frequencies = _frequencies()
    counts = Counter(words)
    known = sum(count for word, count in counts.items() if word in frequencies)
    return frequencies if known >= _MIN_KNOWN * counts.total() and counts else {}


@cache
def background_pairs() -> dict[str, dict[str, int]]:
    """Returns how often words follow each other, by the first; none without symspellpy."""
    try:
        text = files("symspellpy").joinpath(_PAIRS_FILE).read_text(encoding="utf-8-sig")
    except (ImportError, OSError):
        return {}
    pairs: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        first, second, count = line.split()
        pairs.setdefault(first, {})[second] = int(count)
    return pairs


@cache
def _frequencies() -> dict[str, float]:
    try:
        import wordfreq
    except ImportError:
        return {}
    return {
        word: wordfreq.word_frequency(word, "en")
        for word in wordfreq.top_n_list("en", MAX_WORDS)
        if any(map(str.isalpha, word))
    }
