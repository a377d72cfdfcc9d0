"""Contents of files -> which videos must be encoded, and which the index holds in another form.

The decoding thread asks about each file that it has read; the indexing thread takes the videos that
need no decoding.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from reelseek.indexing.building.segmenting import VideoTag
from reelseek.indexing.shards.opening import AnyWriter
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.unfinished import UnfinishedVideo
from reelseek.indexing.store.videos import FileSignature, VideoRecord
from reelseek.vision import FileContent

# The entry with the same content, the frames as an earlier run kept them, or why its file was not
# read.
Known: TypeAlias = VideoRecord | UnfinishedVideo | str


class Contents:
    """The contents that the index holds, and those in hand.

    Args:
        records: the index's videos by root and key.
        removed: of these, the videos that have left their place: the same content elsewhere is one
            of them, moved, rather than a copy of another.
        retry_failed: encode contents again that failed before.
    """

    def __init__(
        self,
        writer: AnyWriter,
        records: dict[tuple[str, str], VideoRecord],
        *,
        removed: Iterable[VideoRecord],
        retry_failed: bool,
        stop: StopRequest,
    ) -> None:
        self._writer = writer
        self._records = records
        self._retry_failed = retry_failed
        self._stop = stop
        self._by_content = {
            record.signature.content_sha256: record
            for record in (*records.values(), *removed)
            if record.location is not None
        }
        self._known: deque[tuple[VideoTag, Known]] = deque()
        self._in_hand: set[str] = set()  # one video of each is being encoded,
        self._waiting: dict[str, list[VideoItem]] = {}  # and these, by content, wait for it
        self._encoded: dict[str, VideoRecord] = {}  # by this run

    def admit(self, tag: VideoTag, content: FileContent) -> UnfinishedVideo | None:
        """Returns where to keep the frames of a video; None where it need not be encoded."""
        tag.signature = FileSignature(content.size_bytes, content.modified_ns, content.sha256)
        known = self._encoded.get(content.sha256) or self._find(tag)
        if known is not None:
            self.settle(tag, known)
        elif content.sha256 in self._in_hand:
            self._waiting.setdefault(content.sha256, []).append(tag.item)
        elif not self._stop:
            self._in_hand.add(content.sha256)
            kept = self._writer.unfinished.open(tag.signature)
            if kept.finished is None:
                return kept
            self.settle(tag, kept)
        return None

    def settle(self, tag: VideoTag, known: Known) -> None:
        """Hands a video that need not be encoded to the indexing thread."""
        self._known.append((tag, known))

    def settled(self) -> Iterator[tuple[VideoTag, Known]]:
        """Takes the videos that need not be encoded."""
        while self._known:
            yield self._known.popleft()

    def discard(self, record: VideoRecord) -> None:
        """Drops an entry that has been replaced since."""
        del self._by_content[record.signature.content_sha256]

    def end_round(self) -> list[VideoItem]:
        """Returns the videos that waited for another of the same content, which is saved now."""
        waiting, self._waiting = self._waiting, {}
        self._in_hand.clear()
        for record in self._writer.catalogue.scan() if waiting else ():
            if record.signature.content_sha256 in waiting:
                self._encoded[record.signature.content_sha256] = record
        return [item for items in waiting.values() for item in items]

    def _find(self, tag: VideoTag) -> VideoRecord | None:
        known = self._records.get(tag.item.root_and_key)
        if known is None or known.signature.content_sha256 != tag.signature.content_sha256:
            known = self._by_content.get(tag.signature.content_sha256)
        is_retried = known is not None and known.outcome == "failed" and self._retry_failed
        return None if is_retried else known
