"""An index -> what its videos show, as codes."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from reelseek.indexing.reader import IndexReader
from reelseek.recommendation.learning.content_codes import content_codes

__all__ = ["VideoCodes", "codes_of_videos"]

_MAX_KEPT = 20_000  # videos, of some 200 bytes each


def codes_of_videos(reader: IndexReader, public_ids: Sequence[str]) -> dict[str, bytes]:
    """Returns the codes of those videos that are searchable."""
    names, embeddings = reader.video_embeddings(public_ids)
    return dict(zip(names, content_codes(embeddings), strict=True))


class VideoCodes:
    """Codes of the videos of an index that were asked for lately. Threads may share it."""

    def __init__(self, *, max_kept: int = _MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._revision = -1  # of the index that they are of
        self._codes: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, reader: IndexReader, public_ids: Sequence[str]) -> dict[str, bytes]:
        """Returns the code of each video; empty where it is not in the index."""
        with self._lock:
            if reader.revision != self._revision:
                self._revision = reader.revision
                self._codes.clear()
            found = {name: self._codes[name] for name in public_ids if name in self._codes}
            for name in found:
                self._codes.move_to_end(name)
        missing = [name for name in public_ids if name not in found]
        if missing:
            read = codes_of_videos(reader, missing)
            new = {name: read.get(name, b"") for name in missing}
            found.update(new)
            with self._lock:
                if reader.revision == self._revision:
                    self._codes.update(new)
                    while len(self._codes) > self._max_kept:
                        self._codes.popitem(last=False)
        return found
