"""Detects the language of a text among the languages in use.

The script decides if only one language uses it. Vietnamese and Japanese have letters of their own.
lingua decides between the others, such as English and Spanish.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import regex

from reelseek.text.scripts import script_counts

UNKNOWN = "und"  # ISO 639-3: undetermined

_LANGUAGES_OF_SCRIPT = {
    "Han": "zh ja",
    "Hiragana": "ja",
    "Katakana": "ja",
    "Hangul": "ko",
    "Thai": "th",
    "Lao": "lo",
    "Khmer": "km",
    "Myanmar": "my",
    "Greek": "el",
    "Hebrew": "he",
    "Georgian": "ka",
    "Armenian": "hy",
    "Ethiopic": "am",
    "Bengali": "bn",
    "Tamil": "ta",
    "Telugu": "te",
    "Devanagari": "hi mr ne",
    "Arabic": "ar fa ur",
    "Cyrillic": "ru uk bg be sr mk kk",
}
# A Han character carries as much meaning as a few letters.
_WEIGHT = {"Han": 3, "Hiragana": 2, "Katakana": 2, "Hangul": 2, "Latin": 1}

# Forms that only Japanese uses: neither traditional nor simplified Chinese characters.
_JAPANESE = regex.compile(
    r"[\p{Hiragana}\p{Katakana}々駅桜広図売読発変単関気仏払浜済沢渋滝検険験団囲塩駆働込畑峠辻枠匂実対"
    r"専帯弾従応恵悩戦拡挙撃様権歓歯歳毎渓焼猟獣畳稲穏縄縦総続聴脳蔵薬覚観訳豊転軽辺遅酔鉄銭録隠雑霊黒"
    r"髪鶏児両乗亀仮伝価円剣処県巻歩]"
)
# Letters that only Vietnamese has, and letters that it shares with French or Portuguese.
_VIETNAMESE_ONLY = regex.compile(r"[ơưăđƠƯĂĐ\u1ea0-\u1ef9]")
_VIETNAMESE_LETTER = regex.compile(r"[àáâãèéêìíòóôõùúýăđĩũơư\u1ea0-\u1ef9]", regex.IGNORECASE)
_VIETNAMESE_SYLLABLE = regex.compile(
    r"(?:ngh?|[ckpt]h|gh|gi|qu|tr|nh|[bcdđghklmnpqrstvx])?"
    r"[aàáâãăeèéêiìíĩoòóôõơuùúũưyý\u1ea0-\u1ef9]{1,3}(?:ch|nh|ng|[cmnpt])?",
    regex.IGNORECASE,
)
_WORD = regex.compile(r"[\p{L}\p{M}]+")


def languages_of_script(script: str) -> tuple[str, ...]:
    """Returns the ISO 639-1 codes of the languages of a script of `text.scripts`.

    Returns none for Latin and for unknown scripts.
    """
    return tuple(_LANGUAGES_OF_SCRIPT.get(script, "").split())


def is_japanese(text: str) -> bool:
    """Whether a text with Han characters is Japanese: it has kana or Japanese forms."""
    return bool(_JAPANESE.search(text))


def is_vietnamese_word(word: str) -> bool:
    """Whether a word has the shape of a Vietnamese syllable, with or without marks."""
    return bool(_VIETNAMESE_SYLLABLE.fullmatch(word))


def is_vietnamese(text: str) -> bool:
    """Whether a text has letters that only Vietnamese has, or only Vietnamese syllables."""
    if _VIETNAMESE_ONLY.search(text):
        return True
    if not _VIETNAMESE_LETTER.search(text):
        return False
    return all(is_vietnamese_word(word) for word in _WORD.findall(text))


class LanguageDetector:
    """Detects the language of a text among the languages in use.

    Args:
        languages: ISO 639-1 codes; the first is assumed in doubt.

    Raises:
        ValueError: There are none.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        if not languages:
            raise ValueError("languages is empty: name the languages of the queries, such as en,zh")
        self._languages = tuple(languages)

    def language_of(self, text: str) -> tuple[str, str | None]:
        """Returns the language's code (`und` for a text without letters) and a warning or None."""
        candidates = self._candidates(text)
        if not candidates:
            return UNKNOWN, None
        if len(candidates) == 1:
            return candidates[0], None
        detector = _lingua(candidates)
        if detector is None:
            return candidates[0], (
                f"language: assumed {candidates[0]} among {', '.join(candidates)}: lingua is not "
                "installed: pip install '.[query]'"
            )
        found = detector.detect_language_of(text)
        return (found.iso_code_639_1.name.lower() if found else candidates[0]), None

    def _candidates(self, text: str) -> tuple[str, ...]:
        weights: Counter[str] = Counter()
        for name, count in script_counts(text).items():
            weights[name] = count * _WEIGHT.get(name, 1)
        if not weights:
            return ()
        script = weights.most_common(1)[0][0]
        if script in ("Han", "Hiragana", "Katakana"):
            return ("ja",) if is_japanese(text) and "ja" in self._languages else ("zh",)
        if script == "Latin":
            return self._latin(text)
        known = _LANGUAGES_OF_SCRIPT.get(script, UNKNOWN).split()
        return tuple(code for code in self._languages if code in known) or (known[0],)

    def _latin(self, text: str) -> tuple[str, ...]:
        other_scripts = {code for codes in _LANGUAGES_OF_SCRIPT.values() for code in codes.split()}
        latin = tuple(code for code in self._languages if code not in other_scripts)
        if "vi" in latin and is_vietnamese(text):
            return ("vi",)
        return tuple(code for code in latin if code != "vi") or latin or (UNKNOWN,)


@cache
def _lingua(codes: tuple[str, ...]) -> Any | None:
    """Returns lingua's detector for these languages; None if it is not installed."""
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError:
        return None
    known = [getattr(IsoCode639_1, code.upper(), None) for code in codes]
    found = [code for code in known if code is not None]
    if len(found) < 2:
        return None
    return LanguageDetectorBuilder.from_iso_codes_639_1(*found).build()
