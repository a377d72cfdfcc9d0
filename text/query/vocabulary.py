"""What a catalogue's texts say -> the words, names and tags that queries of it are read by."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import regex

from reelseek.text.normalization import normalized

_WORD = regex.compile(r"[\p{L}\p{M}]+")
_MIN_LETTERS = 3  # of a word that is worth keeping


@dataclass(frozen=True)
class Vocabulary:
    """The words and names of a catalogue.

    Attributes:
        words: casefolded, with how often they occur; a query's words that are among them are
            right as they are.
        entities: names as they are written, with their kinds, such as `person` or `place`.
        tags: as they are written.
    """

    words: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    entities: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    tags: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        *,
        tags: Iterable[str] = (),
        entities: Mapping[str, str] | Iterable[str] = (),
    ) -> "Vocabulary":
        """Reads a catalogue's texts, such as captions and titles.

        Args:
            entities: names with their kinds, or names alone, whose kind is then `name`.
        """
        names = dict(entities) if isinstance(entities, Mapping) else dict.fromkeys(entities, "name")
        tags = tuple(dict.fromkeys(tags))
        counts: Counter[str] = Counter()
        for text in (*texts, *tags, *names):
            counts.update(words_with_letters(text))
        return cls(MappingProxyType(dict(counts)), MappingProxyType(names), tags)


def words_with_letters(text: str) -> list[str]:
    """A text's words of letters, casefolded, the shortest left out."""
    found = _WORD.findall(normalized(text).casefold())
    return [word for word in found if len(word) >= _MIN_LETTERS]
