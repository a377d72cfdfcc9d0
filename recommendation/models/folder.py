"""What was learned from events, in a folder: versions beside each other, and which is in use.

MODELS/current.json                  {"version": 3, "checksum": CRC-32 of the description}
MODELS/model-000003/model.json       the description, with the CRC-32 of each other file
MODELS/model-000003/items.json       ids of the videos, by number
MODELS/model-000003/offsets.npy ...  see `CoWatchTable` and `ItemFactors`
MODELS/model-000003/factors.faiss    only where there are many videos
MODELS/model-000003/sequential.*     see `SequentialModel`; sequential.faiss only for many videos

A version is written whole before it is named; a server that reads the one before goes on with it.
Nothing in it names a user.
"""

import json
import shutil
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.atomic import make_folder, write_atomically
from reelseek.indexing.store.manifest import IndexMismatchError
from reelseek.indexing.vectors.shard import file_checksum, write_index, write_table
from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.feed.factors import ItemFactors
from reelseek.recommendation.live.history import HistoryLimits
from reelseek.recommendation.nearest_items import make_cells, needs_cells, read_cells
from reelseek.recommendation.related.co_watch import CoWatchSettings, CoWatchTable
from reelseek.recommendation.sequential.model import SEQUENTIAL_NAME, SequentialModel
from reelseek.text import strict_json

__all__ = ["Learned", "LearnedInfo", "current_signature", "default_folder", "read", "write"]

FORMAT_VERSION = 1
_CURRENT, _DESCRIPTION, _ITEMS = "current.json", "model.json", "items.json"
_FACTOR_CELLS, _SEQUENTIAL_CELLS = "factors.faiss", "sequential.faiss"
_ARRAYS = ("offsets", "neighbors", "counts", "watchers", "popular")
_NUM_KEPT = 2  # versions; a server may be about to read the one before


@dataclass(frozen=True)
class LearnedInfo:
    """
    Attributes:
        fingerprint: of the model whose embeddings the index has.
        position: of the last event that was learned from.
        built_seconds: Unix time.
        num_users, num_items, num_events: that were learned from.
        as_of_seconds: of the table.
        limits, co_watch, factors: the settings; no factors where there are too few users.
        version: from 1; given when it is written.
    """

    fingerprint: str
    position: int
    built_seconds: float
    num_users: int
    num_items: int
    num_events: int
    as_of_seconds: float
    limits: HistoryLimits = field(default_factory=HistoryLimits)
    co_watch: CoWatchSettings = field(default_factory=CoWatchSettings)
    factors: AlsSettings | None = None
    version: int = 0


@dataclass(frozen=True, eq=False)
class Learned:
    """A version, opened.

    Attributes:
        sequential: None where it was not asked for, or there are too few users.
        sequential_cells: of its items, where there are many.
    """

    info: LearnedInfo
    table: CoWatchTable
    factors: ItemFactors | None
    sequential: SequentialModel | None = None
    sequential_cells: faiss.Index | None = None


def default_folder(events: Path) -> Path:
    """Where models are kept unless another folder is named: they tell what people do, as events
    do."""
    return events / "models"


def current_signature(folder: Path) -> tuple[int, ...]:
    """Tells whether another version was named; empty as long as there is none."""
    try:
        state = (folder / _CURRENT).stat()
    except OSError:
        return ()
    return state.st_ino, state.st_size, state.st_mtime_ns


def write(folder: Path, learned: Learned) -> int:
    """Writes a new version and names it; returns its number.

    Raises:
        OSError: the disk is full, or fails.
    """
    make_folder(folder)
    version = 1 + max([0, *_versions(folder)])
    target = folder / _name(version)
    make_folder(target)
    checksums = {}
    for name in _ARRAYS:
        checksums[f"{name}.npy"] = write_table(target / f"{name}.npy", getattr(learned.table, name))
    write_atomically(target / _ITEMS, json.dumps(list(learned.table.ids)).encode())
    checksums[_ITEMS] = file_checksum(target / _ITEMS)
    if learned.factors is not None:
        checksums["factors.npy"] = write_table(target / "factors.npy", learned.factors.factors)
        _write_cells(target / _FACTOR_CELLS, learned.factors.factors, checksums)
    if learned.sequential is not None:
        for path in learned.sequential.save(target):
            checksums[path.name] = file_checksum(path)
        _write_cells(target / _SEQUENTIAL_CELLS, learned.sequential.item_vectors(), checksums)
    described = asdict(learned.info) | {"version": version}
    content = strict_json.dumps(
        {"format_version": FORMAT_VERSION, "info": described, "files": checksums}
    ).encode()
    write_atomically(target / _DESCRIPTION, content)
    current = {"version": version, "checksum": zlib.crc32(content)}
    write_atomically(folder / _CURRENT, json.dumps(current).encode())
    for old in _versions(folder)[:-_NUM_KEPT]:
        shutil.rmtree(folder / _name(old), ignore_errors=True)
    return version


def read(folder: Path, *, fingerprint: str) -> Learned | None:
    """Opens the version in use; None where there is none yet.

    Args:
        fingerprint: of the model whose embeddings the index has.

    Raises:
        IndexMismatchError: it was made for an index of another model.
        ValueError: it is damaged, or of another format.
    """
    path = folder / _CURRENT
    try:
        current = strict_json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(_damaged(path)) from error
    try:
        target = folder / _name(int(current["version"]))
        content = (target / _DESCRIPTION).read_bytes()
        if zlib.crc32(content) != current["checksum"]:
            raise ValueError(_damaged(target / _DESCRIPTION))
        described = strict_json.loads(content)
        found = described["format_version"]
        if found != FORMAT_VERSION:
            raise ValueError(f"{target} has format {found}, this version reads {FORMAT_VERSION}")
        info = _info(described["info"])
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing: build the model again") from error
    except (KeyError, TypeError) as error:
        raise ValueError(_damaged(path)) from error
    if info.fingerprint != fingerprint:
        raise IndexMismatchError(
            f"{target}: was made for an index of another model; build the model again"
        )
    return _opened(target, info, described["files"])


def _opened(target: Path, info: LearnedInfo, checksums: dict[str, int]) -> Learned:
    for name, checksum in checksums.items():
        path = target / name
        try:
            is_whole = "/" not in name and file_checksum(path) == checksum
        except FileNotFoundError as error:
            raise ValueError(f"{path} is missing: build the model again") from error
        if not is_whole:
            raise ValueError(_damaged(path))
    ids = strict_json.loads((target / _ITEMS).read_bytes())
    arrays = {name: read_array(target / f"{name}.npy", mapped=True) for name in _ARRAYS}
    table = CoWatchTable(ids=tuple(ids), as_of_seconds=info.as_of_seconds, **arrays)
    factors = None
    if info.factors is not None:
        rows = read_array(target / "factors.npy", mapped=True)
        factors = ItemFactors(rows, info.factors, cells=_cells(target / _FACTOR_CELLS, checksums))
    if SEQUENTIAL_NAME not in checksums:
        return Learned(info, table, factors)
    sequential = SequentialModel.load(target)
    cells = _cells(target / _SEQUENTIAL_CELLS, checksums)
    return Learned(info, table, factors, sequential, cells)


def _write_cells(path: Path, vectors: np.ndarray, checksums: dict[str, int]) -> None:
    if needs_cells(len(vectors)):
        checksums[path.name] = write_index(path, make_cells(vectors))


def _cells(path: Path, checksums: dict[str, int]) -> faiss.Index | None:
    return read_cells(path) if path.name in checksums else None


def _info(values: dict[str, Any]) -> LearnedInfo:
    factors = values["factors"]
    return LearnedInfo(
        **values
        | {
            "limits": HistoryLimits(**values["limits"]),
            "co_watch": CoWatchSettings(**values["co_watch"]),
            "factors": None if factors is None else AlsSettings(**factors),
        }
    )


def _versions(folder: Path) -> list[int]:
    numbers = (path.name.removeprefix("model-") for path in folder.glob("model-*"))
    return sorted(int(number) for number in numbers if number.isascii() and number.isdigit())


def _name(version: int) -> str:
    return f"model-{version:06d}"


def _damaged(path: Path) -> str:
    return f"{path} is damaged: build the model again"
