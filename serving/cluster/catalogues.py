"""The catalogues in an index's folder -> its count of changes, and the entry of a video."""

import threading
from contextlib import ExitStack
from pathlib import Path

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue, VideoRecord
from reelseek.indexing.store.manifest import Manifest


class Catalogues:
    """Opens the catalogues of an index when they are first asked for; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: dict[Path, Catalogue] = {}
        self._of: dict[Path, int] = {}  # the file that each was opened from

    def revision(self, folder: Path, manifest: Manifest) -> int:
        """Returns the count of changes so far, of all shards together."""
        return sum(each.counter("revision") for each in self._catalogues(folder, manifest))

    def record(self, folder: Path, manifest: Manifest, public_id: str) -> VideoRecord | None:
        """Returns the entry of a video; None where there is none."""
        for catalogue in self._catalogues(folder, manifest):
            if found := catalogue.by_public_id([public_id]).get(public_id):
                return found
        return None

    def close(self) -> None:
        with self._lock, ExitStack() as stack:
            for catalogue in self._opened.values():
                stack.callback(catalogue.close)
            self._opened.clear()

    def _catalogues(self, folder: Path, manifest: Manifest) -> list[Catalogue]:
        found = []
        with self._lock:
            for shard in manifest.shard_manifests(folder):
                path = shard / CATALOGUE_NAME
                number = path.stat().st_ino
                if self._of.get(path) != number:  # new, or replaced
                    self._opened[path] = Catalogue(path, read_only=True)
                    self._of[path] = number
                found.append(self._opened[path])
        return found
