"""Files of past queries -> how often each was asked on each day.

query TAB count [TAB date]          date as 2020-01-31
id:query, or id TAB query           asked once each; TREC's `id:priority:query` too
Date TAB Query TAB ... TAB PopularityScore ...     Bing's, known by its header
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TypeAlias

from reelseek.ranking.prefix_index import folded

# Counts by the day's ordinal (`date.toordinal`), or by None where a file has no dates.
DailyCounts: TypeAlias = dict[int | None, Counter[str]]

MAX_QUERY_LETTERS = 200  # longer ones are pasted text, which nobody types again

_NUMBERED = re.compile(r"\d+[:\t]\s*\S")
_PRIORITY = re.compile(r"\d+:(\d:)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORMS = "query TAB count [TAB date], id:query, or a table of Bing's"


def read_daily_counts(path: Path, *, option: str) -> DailyCounts:
    """Reads a file; queries are folded, and those without letters or too long are left out.

    Args:
        option: that named the file, for messages.

    Raises:
        ValueError: the file is missing or empty, or a line cannot be read; with its number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ValueError(f"{option}={path}: cannot be read ({reason})") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    counts: DailyCounts = {}
    try:
        for query, count, day in _rows(lines):
            form = folded(query)
            if form and len(form) <= MAX_QUERY_LETTERS and count > 0:
                counts.setdefault(day, Counter())[form] += count
    except ValueError as error:
        raise ValueError(f"{option}={path}: {error}; a line is {_FORMS}") from error
    if not counts:
        raise ValueError(f"{option}={path}: holds no query; a line is {_FORMS}")
    if None in counts and len(counts) > 1:
        raise ValueError(f"{option}={path}: some lines have a date and some have none")
    return counts


def total_counts(counts: DailyCounts, *, before: int | None = None) -> Counter[str]:
    """Adds days up.

    Args:
        before: only earlier days than this, and those without a date.
    """
    total: Counter[str] = Counter()
    for day, queries in counts.items():
        if before is None or day is None or day < before:
            total.update(queries)
    return total


_Row: TypeAlias = tuple[str, int, int | None]


def _rows(lines: Sequence[str]) -> Iterator[_Row]:
    first = next((line for line in lines if line.strip()), "")
    columns = [column.strip().casefold() for column in first.split("\t")]
    if {"query", "popularityscore"} <= set(columns):
        yield from _each(lines, lambda line: _bing_row(line, columns), skip=first)
    elif all(_NUMBERED.match(line) for line in lines if line.strip()) and not _has_counts(first):
        yield from ((query, 1, None) for query in _numbered(lines))
    else:
        yield from _each(lines, _counted_row)


def _each(lines: Sequence[str], read: Callable[[str], _Row], *, skip: str = "") -> Iterator[_Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip() or line == skip:
            continue
        try:
            yield read(line)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} cannot be read ({error})") from error


def _bing_row(line: str, columns: Sequence[str]) -> _Row:
    values = line.split("\t")
    day = _day(values[columns.index("date")]) if "date" in columns else None
    return values[columns.index("query")], _count(values[columns.index("popularityscore")]), day


def _counted_row(line: str) -> _Row:
    query, *rest = line.split("\t")
    if not rest:
        return query, 1, None
    return query, _count(rest[0]), _day(rest[1]) if len(rest) > 1 else None


def _numbered(lines: Sequence[str]) -> Iterator[str]:
    """Queries after their ids. TREC's later topics have a priority between the two: a digit counts
    as one where a line beside has one as well, so that `7:3:10 to yuma` loses nothing."""
    found = [line for line in lines if line.strip()]
    priorities = [_PRIORITY.match(line) for line in found]
    for number, line in enumerate(found):
        query = re.split(r"[:\t]", line, maxsplit=1)[1]
        beside = priorities[max(0, number - 1) : number] + priorities[number + 1 : number + 2]
        yield query[2:] if priorities[number] and any(beside) else query


def _has_counts(line: str) -> bool:
    """Whether a line that begins with a number is a query, its count and perhaps its date."""
    _, *rest = line.split("\t")
    return bool(rest) and rest[0].strip().isdecimal() and (len(rest) == 1 or _is_date(rest[1]))


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text.strip()) is not None


def _count(text: str) -> int:
    count = float(text)
    if not 0 <= count < 1e15 or count != int(count):
        raise ValueError(f"{text.strip()!r} is no count")
    return int(count)


def _day(text: str) -> int:
    if not _is_date(text):
        raise ValueError(f"{text.strip()!r} is no date such as 2020-01-31")
    return date.fromisoformat(text.strip()).toordinal()
