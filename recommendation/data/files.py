"""Public files of interactions -> `Sequences`; a mistake is a ValueError of one line.

user item item ...    one user a line, parts divided by blanks or tabs, ids of any text
FILE.npz              arrays `row`, `col` and `shape` of a sparse matrix of users and items
item,title            a CSV with this header
"""

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reelseek.recommendation.data.sequences import Sequences, Vocabulary

__all__ = ["check_file", "read_interactions", "read_titles"]

_NPZ_NAMES = ("row", "col", "shape")
_MAX_SIDE = 100_000_000  # users or items of a matrix; more is a damaged file


def check_file(option: str, path: Path) -> None:
    """Raises a ValueError where an option's file cannot be read, before any is read whole."""
    if not path.is_file():
        found = "is not a file" if path.exists() else "no such file"
        raise ValueError(f"{option}={path}: {found}; name a file of interactions")
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise ValueError(f"{option}={path}: cannot be read ({error.strerror})") from error
    if is_empty:
        raise ValueError(f"{option}={path}: is empty; each line is like 'user item item'")


def read_interactions(
    option: str,
    path: Path,
    *,
    items: Vocabulary,
    is_ordered: bool = True,
    may_lack_items: bool = False,
) -> Sequences:
    """Reads the items of users: lines of text, or a sparse matrix where the name ends in `.npz`.

    Args:
        option: that names the file, for messages.
        items: the catalogue, to which items are added.
        is_ordered: whether the order of a line's items is that of time; a matrix has none.
        may_lack_items: whether users may have no items, as in files of questions.

    Raises:
        ValueError: the file is missing, empty or malformed; the message names the line.
    """
    check_file(option, path)
    if path.suffix == ".npz":
        found = _read_npz(f"{option}={path}", path, items=items)
    else:
        lines = _parse_lines(f"{option}={path}", path, may_lack_items=may_lack_items)
        found = Sequences.of(lines, items, is_ordered=is_ordered)
    if not found.num_events:
        raise ValueError(f"{option}={path}: holds no interactions")
    return found


def read_titles(option: str, path: Path) -> dict[str, str]:
    """Reads a CSV with the header `item,title`; returns each item's title, the last where an item
    has several.

    Raises:
        ValueError: the file is missing, is no UTF-8, or lacks a column.
    """
    check_file(option, path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{option}={path}: is not UTF-8; save it as UTF-8") from error
    titles: dict[str, str] = {}
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if not {"item", "title"} <= set(header):
            raise ValueError(
                f"{option}={path}: its first line is {','.join(header)[:80]!r}: must be item,title"
            )
        item_column, title_column = header.index("item"), header.index("title")
        for row in rows:
            if not row:
                continue
            if len(row) <= max(item_column, title_column):
                raise ValueError(
                    f"{option}={path}, line {rows.line_num}: has {len(row)} fields, the header "
                    f"{len(header)}; quote titles that hold commas"
                )
            titles[row[item_column].strip()] = row[title_column]
    except csv.Error as error:
        raise ValueError(f"{option}={path}, line {rows.line_num}: {error}") from error
    if not titles:
        raise ValueError(f"{option}={path}: holds no titles below its header")
    return titles


def _parse_lines(name: str, path: Path, *, may_lack_items: bool) -> Iterator[tuple[str, list[str]]]:
    line_by_user: dict[str, int] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            # Ids are any text: bytes that are no UTF-8 are kept as they are.
            parts = [part.decode("utf-8", "surrogateescape") for part in line.split()]
            if not parts:
                continue
            user, *ids = parts
            if not ids and not may_lack_items:
                raise ValueError(
                    f"{name}, line {number}: user {user!r} has no items; "
                    "each line is like 'user item item'"
                )
            if user in line_by_user:
                raise ValueError(
                    f"{name}, line {number}: user {user!r} stands on line {line_by_user[user]} "
                    "too; put all items of a user on one line"
                )
            line_by_user[user] = number
            yield user, ids


def _read_npz(name: str, path: Path, *, items: Vocabulary) -> Sequences:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{name}: is no .npz file; save row, col and shape by numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [each for each in _NPZ_NAMES if each not in arrays]
            if missing:
                raise ValueError(
                    f"{name}: lacks {', '.join(missing)}: must hold row, col and shape"
                )
            row, col, shape = (arrays[each] for each in _NPZ_NAMES)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ValueError(f"{name}: is no .npz file ({error})") from error
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: cannot be read without pickle; save plain arrays") from error
    _check_npz(name, row, col, shape=shape)
    num_users, num_items = map(int, shape)
    # Columns are the catalogue, also those without a pair.
    columns = np.array([items.add(str(column)) for column in range(num_items)], np.int32)
    order = np.argsort(row, kind="stable")
    lengths = np.bincount(row, minlength=num_users)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    users = tuple(map(str, range(num_users)))
    return Sequences(items, users, offsets, columns[col[order]], is_ordered=False)


def _check_npz(name: str, row: np.ndarray, col: np.ndarray, *, shape: np.ndarray) -> None:
    for label, array in (("row", row), ("col", col), ("shape", shape)):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: {label} is {array.dtype} of shape {array.shape}: must be a list of "
                "whole numbers"
            )
    if len(row) != len(col):
        raise ValueError(f"{name}: row has {len(row)} numbers and col {len(col)}: must be as many")
    if len(shape) != 2 or not all(0 < side <= _MAX_SIDE for side in map(int, shape)):
        raise ValueError(f"{name}: shape is {shape.tolist()}: must be users and items, two numbers")
    for label, array, side in (("row", row, shape[0]), ("col", col, shape[1])):
        if len(array) and not (int(array.min()) >= 0 and int(array.max()) < int(side)):
            raise ValueError(
                f"{name}: {label} goes from {array.min()} to {array.max()}: must lie in 0 to "
                f"{int(side) - 1}, as shape says"
            )
