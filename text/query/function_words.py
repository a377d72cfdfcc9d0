"""Drops function words, which are no evidence that a text matches a query.

Articles, prepositions, pronouns, auxiliaries, numbers, single letters and prefixes of camera files
occur in texts of every kind. spaCy's stop word lists name them (only the file of one language is
read); Chinese and Japanese words are also recognised by their part of speech. Without spaCy,
tantivy's lists and the most common words of wordfreq replace them.

A function word of one language may be a content word of another, like "die" and "hat" in German and
English. Only the lists of the query's language count; words in Latin letters are English unless
they are far more frequent in another language.
"""

import runpy
import threading
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import regex

from reelseek.text.languages import is_japanese, is_vietnamese, languages_of_script
from reelseek.text.normalization import normalized
from reelseek.text.scripts import scripts_of

_ENGLISH = "en"
# Languages in Latin letters that both spaCy and wordfreq know.
_LATIN = tuple("de fr es it pt nl sv nb da pl cs sk sl hu fi ro ca tr id".split())
_SNOWBALL = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "sv": "Swedish",
    "nb": "Norwegian",
    "da": "Danish",
    "fi": "Finnish",
    "hu": "Hungarian",
    "ru": "Russian",
}  # fmt: skip
_COMMONEST = 50  # most common words of a language, nearly all of them function words

# A query is not English if another language makes its words 10 to this power times as likely: more
# than "hat" or "war" alone reach, and less than any article with its noun.
_MIN_LOG10_RATIO = 2.5
_UNKNOWN_ZIPF = 2.5  # of a word that is not in a language's list; listed words are above 3

# Prefixes (DCF 2.0, section 3.2.3, leaves four characters to the maker) and suffixes of file names
# by cameras, phones and messengers.
_FILE_WORDS = frozenset(
    "img dsc dscn dscf dcim mvi mov vid gopr pxl dji cimg imgp pict pano mah wa screenrecording "
    "mp4 m4v avi mkv webm mpg mpeg wmv flv 3gp mts m2ts jpg jpeg png heic".split()
)
_NUMBER = regex.compile(
    r"[\p{N}零〇一二三四五六七八九十百千万億亿]+|\p{Nd}+(?:st|nd|rd|th)|[ivx]{2,}"
)
_ONE_LETTER = regex.compile(r"(?V1)[\p{L}--[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]]\p{M}*")
_CHINESE_KINDS = tuple("c d e f h k m o p q r u x y".split())  # the first letters of jieba's tags
_JAPANESE_KINDS = frozenset(
    "助詞 助動詞 代名詞 連体詞 接続詞 感動詞 接頭辞 接尾辞 補助記号 記号".split()
)


def content_words(words: Sequence[str], *, in_language_of: Sequence[str] = ()) -> list[str]:
    """Returns the words without function words.

    Args:
        words: Words of a text, from `text.segmentation.words`.
        in_language_of: Words that determine the language instead, such as those of the query that
            the text may answer.
    """
    languages = _languages_by_script(in_language_of or words)
    return [word for word in words if not _is_function_word(word, languages)]


def _languages_by_script(words: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Returns a function that finds a word's languages by its script and the other words."""
    line = " ".join(words)
    by_script: dict[str, tuple[str, ...]] = {}

    def languages_of(word: str) -> tuple[str, ...]:
        script = next(iter(scripts_of(word)), "")
        if script not in by_script:
            if script == "Latin":
                latin = [word for word in words if script in scripts_of(word)]
                by_script[script] = (_latin_language(tuple(latin)),)
            elif script == "Han":
                by_script[script] = ("ja",) if is_japanese(line) else ("zh",)
            else:
                by_script[script] = languages_of_script(script)
        return by_script[script]

    return languages_of


def _is_function_word(word: str, languages_of: Callable[[str], tuple[str, ...]]) -> bool:
    return _has_no_meaning(word) or _is_function_word_in(word, languages_of(word))


@lru_cache(maxsize=20_000)
def _is_function_word_in(word: str, languages: tuple[str, ...]) -> bool:
    # "don't" and "qu'un"; pyvi joins syllables with a dash
    parts = word.removesuffix("n't").replace("_", " ").split("'")
    return all(
        _has_no_meaning(part) or any(_is_listed(part, language) for language in languages)
        for part in parts
    )


@lru_cache(maxsize=20_000)
def _has_no_meaning(word: str) -> bool:
    """Whether a word is a number, a letter or a part of a file's name, in any language."""
    return word in _FILE_WORDS or bool(_NUMBER.fullmatch(word) or _ONE_LETTER.fullmatch(word))


@lru_cache(maxsize=1_000)
def _latin_language(words: tuple[str, ...]) -> str:
    """Returns the language of words in Latin letters: English unless another is far likelier."""
    if is_vietnamese(" ".join(words)):
        return "vi"
    # Only languages with further function words among these words make a difference.
    doubtful = [word for word in words if not _is_listed(word, _ENGLISH)]
    others = [code for code in _LATIN if any(_is_listed(word, code) for word in doubtful)]
    min_likelihood = _log_likelihood(words, _ENGLISH) + _MIN_LOG10_RATIO
    scores = {code: _log_likelihood(words, code) for code in others}
    likely = [code for code in others if scores[code] >= min_likelihood]
    return max(likely, key=lambda code: scores[code], default=_ENGLISH)


def _log_likelihood(words: Sequence[str], language: str) -> float:
    """Returns log10 of the words' probability in a language, up to a constant.

    Without wordfreq, it counts the function words instead.
    """
    frequencies = _frequencies(language)
    if frequencies is None:
        return 1.5 * sum(_is_listed(word, language) for word in words)
    return sum(
        max(_UNKNOWN_ZIPF, frequencies(part))
        for word in words
        for part in word.replace("_", "'").split("'")
    )


@lru_cache(maxsize=20_000)
def _is_listed(word: str, language: str) -> bool:
    listed, filtered = _list(language)
    if word in listed or (filtered is not None and not filtered(word)):
        return True
    tag = _TAGGERS.get(language)
    return tag is not None and tag(word)


@cache
def _list(language: str) -> tuple[frozenset[str], Callable[[str], list[str]] | None]:
    """Returns a language's function words, and a filter for those that cannot be listed."""
    spacy = find_spec("spacy")  # without importing it, which takes a second
    for folder in (spacy and spacy.submodule_search_locations) or ():
        path = Path(folder) / "lang" / language / "stop_words.py"
        if path.exists():
            found = runpy.run_path(str(path))["STOP_WORDS"]
            # Our words are split at the apostrophe: "'ll" is "ll" here.
            return frozenset(normalized(word).casefold().removeprefix("'") for word in found), None
    return _commonest(language), _snowball(language)


def _commonest(language: str) -> frozenset[str]:
    try:
        import wordfreq
    except ImportError:
        return frozenset()
    if language not in wordfreq.available_languages("small"):
        return frozenset()
    return frozenset(wordfreq.top_n_list(language, _COMMONEST, wordlist="small"))


def _snowball(language: str) -> Callable[[str], list[str]] | None:
    """Returns a function that returns no word for Snowball's stop words."""
    if language not in _SNOWBALL:
        return None
    try:
        from tantivy import Filter, TextAnalyzerBuilder, Tokenizer
    except ImportError:
        return None
    builder = TextAnalyzerBuilder(Tokenizer.whitespace())
    return builder.filter(Filter.stopword(_SNOWBALL[language])).build().analyze


@cache
def _frequencies(language: str) -> Callable[[str], float] | None:
    """Returns the function of a word's Zipf frequency: log10 of its uses per 1e9 words."""
    try:
        import wordfreq
    except ImportError:
        return None
    return lambda word: wordfreq.zipf_frequency(word, language, wordlist="small")


def _is_chinese_function_word(word: str) -> bool:
    try:
        import rjieba
    except ImportError:
        return False
    return all(tag.startswith(_CHINESE_KINDS) for _, tag in rjieba.tag(word))


def _is_japanese_function_word(word: str) -> bool:
    tagger = _japanese_tagger()
    if tagger is None:
        return False
    with _TAGGING:
        kinds = [(node.feature.pos1, node.feature.pos2) for node in tagger(word)]
    return bool(kinds) and all(
        kind in _JAPANESE_KINDS or (kind, part) == ("名詞", "数詞") for kind, part in kinds
    )


@cache
def _japanese_tagger() -> Any | None:
    try:
        import fugashi

        return fugashi.Tagger()
    except (ImportError, RuntimeError):  # without a dictionary
        return None


_TAGGING = threading.Lock()  # MeCab's taggers serve one thread at a time
_TAGGERS = {"zh": _is_chinese_function_word, "ja": _is_japanese_function_word}
