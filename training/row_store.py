"""Named rows that took long to compute <-> files in a folder, which other runs find again.

The hash of a description of how the rows were made names the folder. Parts are written atomically
and then named in a list, so a killed run loses at most the part in progress. Rows are
memory-mapped: a store may be larger than memory.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.atomic import publish_file, write_atomically

_PART_BYTES = 256 << 20
_SAVE_EVERY_SECONDS = 20.0


@dataclass(frozen=True)
class _Location:
    part: int
    first_row: int
    num_rows: int
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedRows:
    """Rows of one name.

    Attributes:
        rows: `(n, ...)`.
        metadata: of them, as JSON holds it.
    """

    name: str
    rows: np.ndarray
    metadata: dict[str, Any] = field(default_factory=dict)


class RowStore:
    """Rows that were all made in one way.

    Args:
        root: folder of all stores, made if missing.
        description: of how the rows are made, with all that may change them.
        list_name: of the file with the location of each name's rows.
    """

    def __init__(self, root: Path, description: dict[str, Any], *, list_name: str) -> None:
        text = json.dumps(description, sort_keys=True)
        self.folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._description = text
        self._list_name = list_name
        self._locations: dict[str, _Location] = {}
        self._parts: dict[int, np.ndarray] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._locations

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from adding rows, and reads those that are there.

        Raises:
            ValueError: the folder cannot be written, or is damaged.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                self.read()
                yield
        except OSError as error:
            raise ValueError(
                f"the cache {self.folder} cannot be written ({error.strerror or error}); name "
                "another folder with data.cache=DIR"
            ) from error

    def read(self) -> None:
        """Reads the list of rows.

        Raises:
            ValueError: the list is damaged.
        """
        try:
            lines = (self.folder / self._list_name).read_text().splitlines()[1:]
        except FileNotFoundError:
            return
        try:
            for line in lines:
                name, part, first_row, num_rows, *metadata = json.loads(line)
                self._locations[name] = _Location(
                    int(part), int(first_row), int(num_rows), *metadata
                )
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.folder / self._list_name} is damaged: delete {self.folder}, which is made "
                "anew"
            ) from error

    def add(self, named: Sequence[NamedRows]) -> None:
        """Writes a part, and then the list with its rows."""
        if not named:
            return
        part = 1 + max((location.part for location in self._locations.values()), default=-1)
        rows = np.concatenate([own.rows for own in named])

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, rows, allow_pickle=False)

        publish_file(self._part_path(part), write)
        first = 0
        for own in named:
            self._locations[own.name] = _Location(part, first, len(own.rows), own.metadata)
            first += len(own.rows)
        lines = [json.dumps({"description": json.loads(self._description)})]
        lines += [
            json.dumps(
                [name, location.part, location.first_row, location.num_rows, location.metadata]
            )
            for name, location in self._locations.items()
        ]
        write_atomically(self.folder / self._list_name, ("\n".join(lines) + "\n").encode())

    def rows(self, name: str) -> np.ndarray:
        """Returns the rows of a name, memory-mapped.

        Raises:
            ValueError: the store is damaged.
        """
        if name not in self._locations:
            raise ValueError(f"{self.folder} is damaged: delete the folder, which is made anew")
        location = self._locations[name]
        path = self._part_path(location.part)
        if location.part not in self._parts:
            try:
                self._parts[location.part] = read_array(path, mapped=True)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{path} is missing or damaged: delete {self.folder}, which is made anew"
                ) from error
        rows = self._parts[location.part][
            location.first_row : location.first_row + location.num_rows
        ]
        if len(rows) != location.num_rows:
            raise ValueError(f"{path} is damaged: delete {self.folder}, which is made anew")
        return rows

    def metadata(self, name: str) -> dict[str, Any]:
        """Returns the metadata of a name's rows; empty for rows that older versions added."""
        return self._locations[name].metadata

    def _part_path(self, part: int) -> Path:
        return self.folder / f"part-{part:08d}.npy"


class PartWriter:
    """Adds rows to a store in parts: a killed run loses those of the last seconds.

    Args:
        store: locked.
    """

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._clear()

    def add(self, named: NamedRows) -> None:
        self._waiting.append(named)
        self._num_bytes += named.rows.nbytes
        is_due = time.monotonic() - self._saved_at > _SAVE_EVERY_SECONDS
        if is_due or self._num_bytes > _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that were added since the last part."""
        self._store.add(self._waiting)
        self._clear()

    def _clear(self) -> None:
        self._waiting: list[NamedRows] = []
        self._num_bytes = 0
        self._saved_at = time.monotonic()
