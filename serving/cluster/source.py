"""Where an index lies, a shared folder or a URL -> a folder on this machine, and its generation."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.remote.opening import OpenedPublication, Part, open_published_index
from reelseek.indexing.store.manifest import SHARDS_NAME, Manifest
from reelseek.text.urls import is_url

_MAX_HELD = 3  # publications that are kept while queries may read them
_POSITIONS = 10**9  # more than any index has shards


class Generation(NamedTuple):
    """Names one consistent state of all shards.

    Attributes:
        division: the id of the index's division into shards; empty for an index in one piece.
        number: of the manifest; counts up.
    """

    division: str
    number: int

    @classmethod
    def of(cls, manifest: Manifest) -> "Generation":
        return cls("" if manifest.sharding is None else manifest.sharding.id, manifest.generation)


def positions_of(group: int, num_groups: int) -> range:
    """Returns the positions of the shards of a group, in an index of any number of shards."""
    return range(group, _POSITIONS, num_groups)


@dataclass(frozen=True)
class Location:
    """Where an index is, for a process of any node.

    Attributes:
        index: a folder that all nodes see at the same path, or the URL of a publication.
        cache: folder of a node for published indexes; None for one in the user's cache folder.
        cache_gb: GiB that they may take there.
    """

    index: str
    cache: str | None = None
    cache_gb: float = 50.0

    @property
    def is_published(self) -> bool:
        return is_url(self.index)


class IndexSource:
    """Finds the newest state of an index. Not for several threads at once.

    Args:
        part: of a published index to fetch; None for all.
    """

    def __init__(self, location: Location, *, part: Part | None = None) -> None:
        self._location = location
        self._part = part
        self._opened: list[OpenedPublication] = []

    @property
    def is_changed_in_place(self) -> bool:
        """Whether a writer changes the folder that is read; a publication is never changed."""
        return not self._location.is_published

    def folder(self) -> Path:
        """Returns the folder of the newest state; of a publication, fetches what is missing.

        Raises:
            ValueError: there is no publication, or it cannot be read.
        """
        where = self._location
        if not where.is_published:
            return Path(where.index)
        opened = open_published_index(
            where.index, where.cache, cache_gb=where.cache_gb, part=self._part
        )
        if self._opened and self._opened[-1].folder == opened.folder:
            opened.close()
        else:
            self._opened.append(opened)
            if len(self._opened) > _MAX_HELD:
                self._opened.pop(0).close()
        return self._opened[-1].folder

    def close(self) -> None:
        for opened in self._opened:
            opened.close()
        self._opened.clear()


def description() -> Part:
    """Returns the part of a published index that says what is in it: manifest, catalogues,
    clusters and report, without embeddings."""

    def holds(path: str) -> bool:
        name = path.rpartition("/")[2]
        is_clusters = path.startswith("clusters-") and path.endswith(".npy")
        is_named = name in (CATALOGUE_NAME, "report.jsonl")
        return path == Manifest.path(Path()).name or is_named or is_clusters

    return Part("description", holds)


def shards_part(location: Location, positions: range) -> Part | None:
    """Returns the part of a published index that the shards at these positions are; None for all
    of an index in one piece, or in a folder.

    Raises:
        ValueError: the publication cannot be read.
    """
    if not location.is_published:
        return None
    source = IndexSource(location, part=description())
    try:
        sharding = Manifest.read(source.folder()).sharding
    finally:
        source.close()
    if sharding is None:
        return None
    own = set(list(sharding.shards)[positions.start :: positions.step])

    def holds(path: str) -> bool:
        first, _, below = path.partition("/")
        return first != SHARDS_NAME or below.partition("/")[0] in own

    return Part("shards-" + "-".join(sorted(own)), holds)
