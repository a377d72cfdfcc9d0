"""Indexes of random embeddings, and a dictionary with a full search that says what they hold."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reelseek.indexing import IndexReader, IndexSettings
from reelseek.indexing.store.videos import FileSignature, NewVideo
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking import SearchHit
from reelseek.ranking.moments import merge_moments

D = 8

SETTINGS = IndexSettings(
    model={"name": "given"},
    fingerprint="f" * 32,
    embedding_dim=D,
    sampling={},
    segments={"kind": "windows", "seconds": 2.0, "overlap_seconds": 0.0},
)


def ids_by_key(reader: IndexReader) -> dict[str, str]:
    """The public ids of the videos of an index of one root."""
    names = reader.ids_by_name()
    ids = reader.video_ids()
    return {name: id for name, (id,) in names.items() if name not in ids}


def unit(rows: np.ndarray) -> np.ndarray:
    """Normalised rows, as precise as the index keeps them."""
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


def video_of(
    key: str, segments: np.ndarray, *, frames: np.ndarray | None = None, **values
) -> tuple[NewVideo, np.ndarray]:
    """A video of segments `(S, D)` of two seconds, and all of its embeddings: its own is the mean
    of the segments'; there is one frame unless `(T, D)` are given."""
    segments = unit(segments)
    frames = segments[:1] if frames is None else unit(frames)
    starts = 2.0 * np.arange(len(segments))
    video = NewVideo(
        key,
        f"/videos/{key}",
        FileSignature(10, 20, f"sha of {key}"),
        "ok",
        decoder="pyav",
        num_frames=len(frames),
        duration_seconds=2.0 * len(segments),
        spans=np.stack([starts, starts + 2], axis=1),
        frame_times=np.arange(len(frames)) + 0.5,
        **values,
    )
    return video, np.concatenate([unit(segments.mean(axis=0, keepdims=True)), segments, frames])


def random_video(
    rng: np.random.Generator, key: str, *, num_segments: int | None = None, **values
) -> tuple[NewVideo, np.ndarray]:
    """A video of 1 to 6 segments that change slowly, as films do."""
    count = int(rng.integers(1, 7)) if num_segments is None else num_segments
    steps = rng.normal(size=(count, D)).cumsum(axis=0) + rng.normal(size=D)
    return video_of(key, steps, frames=rng.normal(size=(int(rng.integers(1, 4)), D)), **values)


def shows_metadata(key: str, metadata: dict) -> tuple[NewVideo, np.ndarray]:
    """A video of one segment with this metadata."""
    return video_of(key, np.eye(D)[:1], metadata=metadata)


def failed_video(key: str) -> tuple[NewVideo, np.ndarray]:
    video = NewVideo(key, f"/videos/{key}", FileSignature(1, 2, "sha"), "failed", "is broken")
    return video, np.empty((0, D), np.float32)


@dataclass
class Oracle:
    """What an index should hold: each video and its embeddings, by key."""

    held: dict[str, tuple[NewVideo, np.ndarray]] = field(default_factory=dict)

    def videos(self, query: np.ndarray, only: Collection[str] | None = None) -> list[tuple]:
        """`(score, key)` of all videos, the best first."""
        found = [(float(rows[0] @ query), key) for key, _, rows in self._searchable(only)]
        return sorted(found, reverse=True)

    def moments(self, query: np.ndarray, only: Collection[str] | None = None) -> list[tuple]:
        """`(score, key, start, end)` of all moments of all videos, the best first."""
        found = []
        for key, video, rows in self._searchable(only):
            scores = rows[1 : 1 + len(video.spans)] @ query
            found += [
                (moment.score, key, moment.start_seconds, moment.end_seconds)
                for moment in merge_moments(scores, video.spans)
            ]
        return sorted(found, reverse=True)

    def _searchable(self, only: Collection[str] | None) -> Iterable[tuple]:
        contents: set[str] = set()
        for key, (video, rows) in self.held.items():
            if len(rows) and (only is None or key in only):
                if video.signature.content_sha256 not in contents:  # copies are one hit
                    yield key, video, rows
                contents.add(video.signature.content_sha256)


def answers(hits: list[SearchHit], level: str) -> list[tuple]:
    """Hits as the oracle gives them."""
    if level == "video":
        return [(hit.score, hit.key) for hit in hits]
    return [(hit.score, hit.key, hit.start_seconds, hit.end_seconds) for hit in hits]


def assert_same(found: list[tuple], expected: list[tuple], k: int) -> None:
    """The same scores in the same order, and the same things but for ties."""
    assert len(found) == min(k, len(expected))
    scores = [entry[0] for entry in found]
    np.testing.assert_allclose(scores, [entry[0] for entry in expected[:k]], atol=1e-5)
    assert len({entry[1:] for entry in found}) == len(found)
    all_scores = {entry[1:]: entry[0] for entry in expected}
    for score, *what in found:
        np.testing.assert_allclose(score, all_scores[tuple(what)], atol=1e-5)


def make_index(folder: Path, videos: Iterable[tuple[NewVideo, np.ndarray]], options=None) -> Oracle:
    """Adds videos to an index, publishes it, and returns what it should hold."""
    oracle = Oracle()
    with IndexWriter(folder, SETTINGS) as writer:
        for video, rows in videos:
            writer.add(video, rows)
            oracle.held[video.key] = video, rows
        writer.publish(options)
    return oracle


def random_index(folder: Path, num_videos: int, *, seed: int = 0, options=None) -> Oracle:
    """An index of `0.mp4`, `1.mp4`, ..."""
    rng = np.random.default_rng(seed)
    return make_index(
        folder, [random_video(rng, f"{i}.mp4") for i in range(num_videos)], options=options
    )


def queries(num: int, *, seed: int = 1) -> np.ndarray:
    """`(num, D)` float32."""
    return unit(np.random.default_rng(seed).normal(size=(num, D)))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files of an index but its locks, with their times."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith(("-shm", "-wal"))
    }
