"""The shards of a run -> one numbering of all their samples, the same in all processes."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from reelseek.indexing.progress import progress_bar
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.shards.names import find_shards
from reelseek.training.shards.table import (
    BrokenShardError,
    SampleLocation,
    ShardTable,
    read_table,
)

logger = logging.getLogger(__name__)

_READERS = 8  # threads: on a network drive, reading headers is waiting
_MAX_NAMED = 10


@dataclass(frozen=True)
class ShardCollection:
    """The whole shards of a run, in the order in which they were named.

    Attributes:
        tables: of each.
        broken: path and reason of the others.
    """

    tables: list[ShardTable]
    broken: list[tuple[str, str]]

    @cached_property
    def sizes(self) -> np.ndarray:
        """`(num_shards,)` int64, the samples of each shard."""
        return np.array([len(table) for table in self.tables], np.int64)

    def sample(self, number: int) -> SampleLocation:
        """Returns where a sample lies; `number` counts the samples of all shards from 0."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return self.tables[shard].sample(int(number - self._ends[shard] + self.sizes[shard]))

    @cached_property
    def _ends(self) -> np.ndarray:
        return self.sizes.cumsum()


def find_all_shards(names: Sequence[str]) -> list[Path]:
    """Returns the absolute paths of all shards that `data.train` names, each once.

    Raises:
        ValueError: one is missing.
    """
    paths: dict[Path, None] = {}
    for name in names:
        try:
            paths |= dict.fromkeys(Path(os.path.abspath(shard)) for shard in find_shards(name))
        except ValueError as error:
            raise ValueError(f"data.train={name}: {error}") from error
    if not paths:
        raise ValueError(f"data.train={','.join(names)}: names no shard")
    for path in paths:
        if path.suffix.lower() != ".tar":
            raise ValueError(
                f"data.train={path}: data.stream=true reads .tar shards; name a .tar, a folder of "
                "them, a glob, a range such as train-{000..099}.tar, or a .txt of these"
            )
    return list(paths)


def read_collection(
    names: Sequence[str],
    *,
    cache_folder: Path,
    max_failed_fraction: float,
    stop: StopRequest,
) -> ShardCollection:
    """Reads the tables of all shards, and names those that are broken or incomplete.

    Args:
        names: values of `data.train`.
        cache_folder: of the tables.
        max_failed_fraction: of the shards that may be broken.
        stop: leaves out the shards that have not been read yet.

    Raises:
        ValueError: a shard is missing, too many are broken, or none holds a sample.
    """
    paths = find_all_shards(names)
    tables, broken = [], []
    with (
        ThreadPoolExecutor(_READERS, "shards") as executor,
        progress_bar(total=len(paths), desc="reading shards", unit="shard") as progress,
    ):
        for path, result in zip(
            paths,
            executor.map(lambda path: None if stop else _read(path, cache_folder), paths),
            strict=True,
        ):
            progress.update()
            if isinstance(result, ShardTable):
                tables.append(result)
            elif result is not None:
                broken.append((str(path), result))
    if not stop:
        _report(tables, broken, max_failed_fraction=max_failed_fraction)
    return ShardCollection(tables, broken)


def _read(path: Path, cache_folder: Path) -> ShardTable | str:
    """Returns the shard's table, or why it is broken."""
    try:
        return read_table(path, cache_folder)
    except BrokenShardError as error:
        return str(error)
    except OSError as error:
        raise ValueError(
            f"the cache {cache_folder} cannot be written ({error.strerror or error}); name "
            "another folder with data.cache=DIR"
        ) from error


def _report(
    tables: list[ShardTable], broken: list[tuple[str, str]], *, max_failed_fraction: float
) -> None:
    for path, reason in broken[:_MAX_NAMED]:
        logger.warning("left out: %s: %s", path, reason)
    if len(broken) > _MAX_NAMED:
        logger.warning("left out: %d shards in all", len(broken))
    incomplete = [table for table in tables if table.left_out]
    for table in incomplete[:_MAX_NAMED]:
        logger.warning("%s: left out: %s", table.shard, "; ".join(table.left_out))
    if len(incomplete) > _MAX_NAMED:
        logger.warning("%d shards hold samples that are left out", len(incomplete))
    num_shards = len(tables) + len(broken)
    if len(broken) > max_failed_fraction * num_shards or not sum(map(len, tables)):
        path, reason = broken[0] if broken else (str(tables[0].shard), "holds no captioned sample")
        raise ValueError(
            f"{len(broken)} of {num_shards} shards are broken, and the others hold "
            f"{sum(map(len, tables))} samples; data.max_failed_fraction={max_failed_fraction} "
            f"allows less; the first: {path}: {reason}"
        )
