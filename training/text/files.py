"""Files of texts, or of pairs of texts -> their entries, read when asked for; without PyTorch.

A file is mapped into memory and only where its lines start is kept: 8 bytes a line.
"""

import csv
import json
import logging
import mmap
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

Entry = tuple[str, ...]  # of one text, or of two

FIELDS = ("query", "text", "title")
_MAX_NAMED = 3


class Entries(Sequence[Entry]):
    """The entries of several files, one after the other.

    Args:
        files: as `read_entries` opens them.
    """

    def __init__(self, files: "Sequence[_File]") -> None:
        self._files = files
        self._ends = np.cumsum([len(file.starts) for file in files]).tolist()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: Any) -> Any:
        """Returns one entry."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        index = bisect_right(self._ends, number)
        return self._files[index].entry(number - (self._ends[index - 1] if index else 0))


@dataclass(frozen=True)
class _File:
    """A file whose lines are known.

    Attributes:
        content: its bytes, mapped.
        starts: `(n,)` int64: where the line of each entry starts.
        parts: `(n,)` int: which of its line's entries it is.
    """

    content: Any  # mmap, or bytes where the file is empty
    starts: np.ndarray
    parts: np.ndarray
    parse: Callable[[str], list[Entry]]

    def entry(self, number: int) -> Entry:
        start = int(self.starts[number])
        end = self.content.find(b"\n", start)
        line = self.content[start:] if end < 0 else self.content[start:end]
        return self.parse(_decoded(line))[self.parts[number]]


def read_entries(
    option: str, paths: Sequence[str], *, are_pairs: bool, max_failed_fraction: float = 0.0
) -> Entries:
    """Opens files and checks all their lines; blank ones are dropped, malformed ones named.

    Args:
        option: that names the files, for errors.
        paths: of texts: `.jsonl` with `query`, `text` or `title`, or a list of `captions`; any
            other file has a text a line. Of pairs: `.jsonl` with two of these fields; any other
            file has two columns with a tab between.
        are_pairs: whether entries are pairs.
        max_failed_fraction: of a file's lines that may be malformed.

    Raises:
        ValueError: a file cannot be read, has too many malformed lines, or has no entry.
    """
    return Entries([_open(option, Path(path), are_pairs, max_failed_fraction) for path in paths])


def _open(option: str, path: Path, are_pairs: bool, max_failed_fraction: float) -> _File:
    is_jsonl = path.suffix.lower() == ".jsonl"
    if not are_pairs and path.suffix.lower() in (".tsv", ".csv"):
        raise ValueError(
            f"{option}={path}: is a table; give a file with a text a line or a .jsonl, or name a "
            f"table of two columns as {'pairs' if option == 'data.train' else 'val_pairs'}"
        )
    parse = _parsers[is_jsonl, are_pairs]
    try:
        with path.open("rb") as file:
            empty = path.stat().st_size == 0
            content = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{option}={path}: cannot be read ({reason.lower()})") from error

    starts, parts = array("q"), array("i")  # a list has four times the size
    failed: list[str] = []
    num_lines = 0
    for number, (start, line) in enumerate(_lines(content), 1):
        try:
            entries = parse(_decoded(line)) if line.strip() else []
        except ValueError as error:
            failed.append(f"line {number} ({error})")
            entries = []
        num_lines += bool(line.strip())
        starts.extend([start] * len(entries))
        parts.extend(range(len(entries)))
    _report(f"{option}={path}", failed, num_lines, max_failed_fraction)
    if not starts:
        raise ValueError(f"{option}={path}: holds no {'pair of texts' if are_pairs else 'text'}")
    return _File(content, np.frombuffer(starts, np.int64), np.frombuffer(parts, np.intc), parse)


def _lines(content: Any) -> Iterator[tuple[int, bytes]]:
    """Yields each line with where it starts."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        yield start, content[start:end]
        start = end + 1


def _report(name: str, failed: list[str], num_lines: int, max_failed_fraction: float) -> None:
    if not failed:
        return
    named = f"{', '.join(failed[:_MAX_NAMED])}{', ...' if len(failed) > _MAX_NAMED else ''}"
    if len(failed) > max_failed_fraction * num_lines:
        raise ValueError(
            f"{name}: {len(failed)} of {num_lines} lines are malformed: {named}; mend them, or "
            "raise data.max_failed_fraction"
        )
    logger.warning("%s: %d lines are left out: %s", name, len(failed), named)


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _parse_text(line: str) -> list[Entry]:
    return [(text,)] if (text := _one_line(line)) else []


def _parse_columns(line: str) -> list[Entry]:
    columns = [_one_line(column) for column in next(csv.reader([line], _Tabbed), [])]
    if len(columns) != 2 or not all(columns):
        raise ValueError(f"{len(columns)} columns, of which {sum(map(bool, columns))} hold text")
    return [(columns[0], columns[1])]


class _Tabbed(csv.excel_tab):
    quoting = csv.QUOTE_NONE  # a quote in a query is one


def _parse_object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _parse_json_text(line: str) -> list[Entry]:
    value = _parse_object(line)
    if "captions" in value:
        texts = value["captions"]
        if not isinstance(texts, list):
            raise ValueError("`captions` is no list")
    else:
        texts = [value[name] for name in FIELDS if name in value][:1]
        if not texts:
            raise ValueError(f"none of `{'`, `'.join(FIELDS)}`, `captions`")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text that is none")
    return [(text,) for text in map(_one_line, texts) if text]


def _parse_json_pair(line: str) -> list[Entry]:
    value = _parse_object(line)
    texts = [value[name] for name in FIELDS if name in value]
    if len(texts) != 2:
        raise ValueError(f"{len(texts)} of `{'`, `'.join(FIELDS)}`, not two")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("a text that is none, or blank")
    return [(_one_line(texts[0]), _one_line(texts[1]))]


# By whether a file is .jsonl, and whether it holds pairs.
_parsers: dict[tuple[bool, bool], Callable[[str], list[Entry]]] = {
    (False, False): _parse_text,
    (False, True): _parse_columns,
    (True, False): _parse_json_text,
    (True, True): _parse_json_pair,
}
