"""What is typed in a search box -> what it could become: titles, tags, names, past queries, and
operators with their values.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol

from reelseek.indexing.store.dates import CAPTURED, FROM_FILE_TIME, date_of
from reelseek.ranking.operators import QUOTED, Operator, operators
from reelseek.ranking.prefix_index import PrefixIndex, folded, typed_form, word_starts
from reelseek.ranking.readers import Reader

QUERY, TAG, ENTITY, TITLE, OPERATOR = "query", "tag", "entity", "title", "operator"

MAX_LETTERS = 200  # of what is typed; nothing is suggested for more
_LAST_WORDS = 4  # of what is typed, that the beginning of a name may be
_MAX_NAME_LETTERS = 60  # of a value of the metadata that counts as a name
_MAX_DEPTH = 3  # of the metadata
_NOT_NAMES = {"title", "captions", "description", "tags", "date", CAPTURED}
_SIGN = re.compile(r"(?:^|(?<=\s))(?P<sign>-?(?:#|tags?[:=]))(?P<name>\"?[^\"\s]*)$", re.IGNORECASE)
_PLAIN_TAG = re.compile(r"(?=.*[^\W\d_])\w(?:[\w-]*\w)?")  # needs no quotes
_YEAR = re.compile(r"(?:19|20)\d\d")
_TOP_TAGS = 100
_MIN_OPERATOR_LETTERS = 2  # typed, of an operator in Latin script


@dataclass(frozen=True)
class Suggestion:
    """One line of a drop-down.

    Attributes:
        text: the whole new content of the box.
        kind: `query`, `tag`, `entity`, `title` or `operator`.
        detail: what to show beside it, such as the number of videos; may be empty.
    """

    text: str
    kind: str
    detail: str = ""


class PastQueries(Protocol):
    """What was asked before; texts and prefixes are as of `prefix_index.folded`."""

    def best(self, prefix: str, k: int) -> list[str]:
        """Returns at most k queries that continue a prefix, the best first."""

    def by_words(self, prefix: str, k: int) -> list[str]:
        """Returns at most k texts that were never asked: a prefix with its last word completed."""


class _CountedQueries:
    """Past queries of which no more is known than how often each was asked."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._index = PrefixIndex(counts)

    def best(self, prefix: str, k: int) -> list[str]:
        return self._index.best(prefix, k)

    def by_words(self, prefix: str, k: int) -> list[str]:
        return []


class _Found(NamedTuple):
    num_typed: int  # letters, which it continues
    suggestion: Suggestion


class Suggester:
    """Completes what is typed; made once of a generation, then only read: threads may share it.

    Args:
        titles: of the videos, with how many have each.
        tags: likewise.
        names: values of other metadata, with the field and how many videos have each.
        years: of the videos.
        queries: past ones, with how often each was asked.
    """

    def __init__(
        self,
        *,
        titles: Mapping[str, int],
        tags: Mapping[str, int],
        names: Mapping[str, tuple[str, int]],
        years: Iterable[int] = (),
        queries: Mapping[str, int] | None = None,
    ) -> None:
        self._tag_counts, self._names = dict(tags), dict(names)
        self._top_tags = sorted(tags, key=lambda tag: (-tags[tag], tag))[:_TOP_TAGS]
        self._titles = PrefixIndex(titles)
        self._tags = PrefixIndex(tags)
        self._entities = PrefixIndex({name: count for name, (_, count) in names.items()})
        self._operators = [(each.phrase.casefold(), each) for each in operators(sorted(set(years)))]
        self._queries: PastQueries = _CountedQueries(queries or {})

    @classmethod
    def of(cls, reader: Reader, *, queries: Mapping[str, int] | None = None) -> "Suggester":
        """Reads the catalogue, in some seconds for 10^5 videos, in which searches go on."""
        titles: Counter[str] = Counter()
        tags: Counter[str] = Counter()
        names: Counter[tuple[str, str]] = Counter()
        years: set[int] = set()
        for key, metadata in reader.metadata():
            titles[_title(key, metadata)] += 1
            tags.update(set(_strings(metadata.get("tags"))))
            names.update(set(_names(metadata)))
            date, source = date_of(metadata, 0)
            if source != FROM_FILE_TIME and _YEAR.match(date):
                years.add(int(date[:4]))
        fields: dict[str, tuple[str, int]] = {}
        # Of equals the first by the alphabet: a catalogue's order differs with its shards.
        for (name, field), count in sorted(names.items(), key=lambda each: (-each[1], each[0])):
            fields.setdefault(name, (field, count))
        return cls(
            titles=dict(sorted(titles.items())),
            tags=dict(sorted(tags.items())),
            names=fields,
            years=years,
            queries=queries,
        )

    def with_queries(self, queries: Mapping[str, int] | PastQueries) -> "Suggester":
        """Returns the same with other past queries; shares all else.

        Args:
            queries: with how often each was asked, or what completes them.
        """
        other = object.__new__(Suggester)
        past = _CountedQueries(queries) if isinstance(queries, Mapping) else queries
        other.__dict__.update(self.__dict__, _queries=past)
        return other

    def suggest(self, prefix: str, k: int = 8) -> list[Suggestion]:
        """Returns at most k suggestions: those first that continue more of what is typed, and of
        these the best of each kind, then the second best, and so on.

        Args:
            prefix: the content of the box.
        """
        if len(prefix) > MAX_LETTERS or not folded(prefix):
            return []
        sign = _SIGN.search(prefix)
        if sign is not None:
            found = [list(self._after_sign(prefix, sign, k))]
        else:
            found = [
                self._whole(self._queries, prefix, k, QUERY),
                self._last_words(self._tags, prefix, k, self._tag),
                self._last_words(self._entities, prefix, k, self._entity),
                self._whole(self._titles, prefix, k, TITLE),
                list(self._of_operators(prefix, k)),
                self._by_words(prefix, k),
            ]
        in_turn = [each for row in zip_longest(*found) for each in row if each is not None]
        in_turn.sort(key=lambda each: -each.num_typed)
        distinct: dict[str, Suggestion] = {}
        for each in in_turn:
            text = each.suggestion.text
            if folded(text) != folded(prefix) or text.endswith(" "):
                distinct.setdefault(folded(text), each.suggestion)
        return list(distinct.values())[:k]

    def _by_words(self, prefix: str, k: int) -> list["_Found"]:
        """Past queries' words after those that are typed; they continue the last word alone."""
        typed = typed_form(prefix)
        found = self._queries.by_words(typed, k)
        last = word_starts(typed)[-1:]
        num_typed = len(typed) - last[0] if last else 0
        return [_Found(num_typed, Suggestion(text, QUERY)) for text in found]

    def _whole(
        self, index: PrefixIndex | PastQueries, prefix: str, k: int, kind: str
    ) -> list["_Found"]:
        """Texts that continue all that is typed, half of k: other kinds have a place, too."""
        typed = typed_form(prefix)
        return [
            _Found(len(typed), Suggestion(text, kind)) for text in index.best(typed, (k + 1) // 2)
        ]

    def _last_words(
        self,
        index: PrefixIndex,
        prefix: str,
        k: int,
        suggestion: Callable[[str, str], Suggestion | None],
    ) -> list["_Found"]:
        """Completes the last words, as many as are the beginning of a name."""
        found: dict[str, _Found] = {}
        for start in word_starts(prefix)[-_LAST_WORDS:]:
            typed = typed_form(prefix[start:])
            for name in index.best(typed, k):
                each = suggestion(prefix[:start], name)
                if each is not None:
                    found.setdefault(name, _Found(len(typed), each))
        return list(found.values())[:k]

    def _tag(self, head: str, name: str) -> Suggestion | None:
        written = _tag_after("tag:", name)
        if written is None:
            return None
        return Suggestion(head + written, TAG, _num_videos(self._tag_counts[name]))

    def _entity(self, head: str, name: str) -> Suggestion:
        return Suggestion(head + name, ENTITY, self._names[name][0])

    def _after_sign(self, prefix: str, sign: re.Match[str], k: int) -> Iterator["_Found"]:
        """Completes `#bea`, `tag:"new y`, `-tag:dro`; after the sign alone, with the most used."""
        typed = folded(sign["name"].lstrip('"').replace("_", " "))
        for tag in self._tags.best(typed, k) if typed else self._top_tags[:k]:
            written = _tag_after(sign["sign"], tag)
            if written is not None:
                detail = _num_videos(self._tag_counts[tag])
                head = prefix[: sign.start("sign")]
                yield _Found(len(typed), Suggestion(head + written, TAG, detail))

    def _of_operators(self, prefix: str, k: int) -> Iterator["_Found"]:
        if prefix.count('"') % 2:
            yield _Found(len(prefix), Suggestion(f'{prefix.rstrip()}"', OPERATOR, QUOTED))
            return
        seen: set[Operator] = set()
        for start in word_starts(prefix)[-_LAST_WORDS:]:
            typed = typed_form(prefix[start:])
            if typed.isascii() and len(typed) < _MIN_OPERATOR_LETTERS:
                continue
            for phrase, operator in self._operators:
                if phrase.startswith(typed) and operator not in seen:
                    seen.add(operator)
                    text = prefix[:start] + operator.phrase
                    yield _Found(len(typed), Suggestion(text, OPERATOR, operator.detail))
                    if len(seen) == k:
                        return


def _tag_after(sign: str, name: str) -> str | None:
    """A tag as a query names it; None where it cannot."""
    if '"' in name:
        return None
    return f"{sign}{name}" if _PLAIN_TAG.fullmatch(name) else f'{sign}"{name}"'


def _num_videos(count: int) -> str:
    return f"{count:,} video" if count == 1 else f"{count:,} videos"


def _title(key: str, metadata: Mapping[str, Any]) -> str:
    """The title, else the name of the file."""
    titles = _strings(metadata.get("title"))
    return titles[0] if titles else key.rpartition("/")[2].rpartition(".")[0] or key


def _strings(value: Any) -> list[str]:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return [" ".join(each.split()) for each in values if isinstance(each, str) and each.strip()]


def _names(metadata: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Short values of the metadata with the name of their field."""
    for field, value in metadata.items():
        if not above and field in _NOT_NAMES:
            continue
        name = f"{above}{field}"
        if isinstance(value, Mapping) and name.count(".") + 1 < _MAX_DEPTH:
            yield from _names(value, f"{name}.")
        for text in _strings(value):
            if len(text) <= _MAX_NAME_LETTERS and any(map(str.isalpha, text)):
                yield text, name
