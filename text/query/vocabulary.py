"""The words, names and tags of a catalogue, for analysing queries of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import regex

from reelseek.text.normalization import normalized

_WORD = regex.compile(r"[\p{L}\p{M}]+")
_MIN_LETTERS = 3  # shorter words are left out


@dataclass(frozen=True)
class Vocabulary:
    """The words and names of a catalogue.

    Attributes:
        words: Casefolded words with their counts; they are never corrected in queries.
        entities: Names with their kinds, such as `person` or `place`.
        tags: Tags as written.
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
        """Collects the vocabulary of a catalogue.

        Args:
            texts: Texts such as captions and titles.
            tags: Tags of the videos.
            entities: Names with their kinds, or names only, whose kind is then `name`.
        """
        names = dict(entities) if isinstance(entities, Mapping) else dict.fromkeys(entities, "name")
        tags = tuple(dict.fromkeys(tags))
        counts: Counter[str] = Counter()
        for text in (*texts, *tags, *names):
            counts.update(words_with_letters(text))
        return cls(MappingProxyType(dict(counts)), MappingProxyType(names), tags)


def words_with_letters(text: str) -> list[str]:
    """Returns a text's words of at least 3 letters, casefolded."""
    found = _WORD.findall(normalized(text).casefold())
    return [word for word in found if len(word) >= _MIN_LETTERS]
