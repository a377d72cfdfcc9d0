"""A video as the catalogue stores it: the types, and rows of its table `videos`."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from reelseek.text import strict_json

VIDEOS_TABLE = """
CREATE TABLE IF NOT EXISTS videos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    root TEXT NOT NULL,
    public_id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    content_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'partial', 'failed')),
    reason TEXT NOT NULL,
    decoder TEXT NOT NULL,
    num_frames INTEGER NOT NULL,
    duration_seconds REAL NOT NULL,
    metadata TEXT NOT NULL,
    spans BLOB NOT NULL,  -- of the segments: pairs of float64 seconds, little-endian
    frame_times BLOB NOT NULL,  -- of the frames whose embeddings are kept: float64 seconds
    part INTEGER,  -- where the video's embeddings lie: its own, the segments', the frames';
    row INTEGER,   -- NULL where the outcome is failed
    checksum INTEGER NOT NULL,  -- CRC-32 of all of the above
    UNIQUE (root, key)
);
CREATE INDEX IF NOT EXISTS videos_by_content ON videos (content_sha256);
"""
_COLUMNS = (
    *("key", "root", "public_id", "path"),
    *("size_bytes", "modified_ns", "content_sha256", "outcome", "reason"),
    *("decoder", "num_frames", "duration_seconds", "metadata", "spans", "frame_times"),
    *("part", "row"),
)
VIDEOS_COLUMNS = ("id", *_COLUMNS, "checksum")


@dataclass(frozen=True)
class FileSignature:
    """Tells whether a file is still the one that was indexed."""

    size_bytes: int
    modified_ns: int
    content_sha256: str


_SIGNATURE = tuple(f.name for f in fields(FileSignature))


@dataclass(frozen=True)
class NewVideo:
    """A video to be stored.

    Attributes:
        key: its path below its root.
        path: its absolute path when it was last seen.
        outcome: `ok`, `partial` or `failed`, with its reason (empty for `ok`).
        spans: `(S, 2)` float64, start and end seconds of its segments; S is 0 where it failed.
        frame_times: `(T,)` float64 seconds, of the frames whose embeddings are kept.
        root: the folder that it belongs to, see `indexing.store.identity`.
        public_id: its id in hits; made of root and key when it is first stored.
    """

    key: str
    path: str
    signature: FileSignature
    outcome: str
    reason: str = ""
    decoder: str = ""
    num_frames: int = 0
    duration_seconds: float = 0.0
    metadata: dict = field(default_factory=dict)
    spans: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    frame_times: np.ndarray = field(default_factory=lambda: np.empty(0))
    root: str = ""
    public_id: str = ""

    @property
    def root_and_key(self) -> tuple[str, str]:
        """Root and key, which no other video has."""
        return self.root, self.key

    @property
    def root_path(self) -> str:
        """The folder that its key is relative to."""
        return self.path.removesuffix(f"/{self.key}") or "/"

    @property
    def num_rows(self) -> int:
        """The number of its embeddings: its own, its segments' and its frames'; 0 if it failed."""
        return 0 if self.outcome == "failed" else 1 + len(self.spans) + len(self.frame_times)


@dataclass(frozen=True)
class VideoRecord(NewVideo):
    """A video in the catalogue.

    Attributes:
        id: never used again for another video or another content.
        location: part and row of its first embedding; None where it failed.
    """

    id: int = -1
    location: tuple[int, int] | None = None


def by_part(records: Iterable[VideoRecord]) -> dict[int, list[tuple[VideoRecord, int]]]:
    """Groups the videos that have embeddings by part, ascending, each with its first row there."""
    found: dict[int, list[tuple[VideoRecord, int]]] = {}
    for record in records:
        if record.location is not None:
            part, row = record.location
            found.setdefault(part, []).append((record, row))
    return dict(sorted(found.items()))


def to_row(video_id: int, video: NewVideo, location: tuple[int, int] | None) -> tuple:
    """Returns the values of `VIDEOS_COLUMNS`."""
    assert (video.outcome == "failed") == (location is None)
    signature = video.signature
    values = (
        *(video_id, video.key, video.root, video.public_id, video.path),
        *(signature.size_bytes, signature.modified_ns, signature.content_sha256),
        *(video.outcome, video.reason, video.decoder, video.num_frames),
        float(video.duration_seconds),
        strict_json.dumps(video.metadata, sort_keys=True),
        np.ascontiguousarray(video.spans, "<f8").tobytes(),
        np.ascontiguousarray(video.frame_times, "<f8").tobytes(),
        *(location or (None, None)),
    )
    return (*values, _checksum(values))


def is_whole(row: tuple) -> bool:
    """Whether a row is what was written."""
    return _checksum(row[:-1]) == row[-1]


def from_row(row: tuple) -> VideoRecord:
    """The reverse of `to_row`.

    Raises:
        ValueError: the row is not what was written.
    """
    if not is_whole(row):
        raise ValueError(f"the entry of video {row[0]}")
    named = dict(zip(_COLUMNS, row[1:-1], strict=True))
    part, first_row = named.pop("part"), named.pop("row")
    signature = FileSignature(*(named.pop(name) for name in _SIGNATURE))
    named["metadata"] = strict_json.loads(named["metadata"])
    named["spans"] = np.frombuffer(named["spans"], "<f8").reshape(-1, 2)
    named["frame_times"] = np.frombuffer(named["frame_times"], "<f8")
    location = None if part is None else (part, first_row)
    return VideoRecord(id=row[0], location=location, signature=signature, **named)


def _checksum(values: Iterable) -> int:
    pieces: list[bytes] = []
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        pieces += (b"|%d|" % len(data), data)
    return zlib.crc32(b"".join(pieces))
