"""Encoded frames of videos that are not in the index yet: a file for each content.

A video is added after its last frame is encoded and its scenes can be cut, which may take hours; a
frame is kept here as soon as it is encoded, so that a killed run loses none. Embeddings are kept in
float32, so that a resumed video gives the same result as an uninterrupted one.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reelseek.indexing.store.atomic import make_folder, sync_new_folder
from reelseek.indexing.store.records import Record, RecordFile
from reelseek.indexing.store.videos import FileSignature

_MARK = b"rsf1"
_SUFFIX = ".frames"
_KEPT_SECONDS = 60 * 86_400.0  # then frames of a video that never came back are deleted

# The numbers of the records: the first of a file, some of its frames, and the last.
_HEAD, _FRAMES, _END = 0, 1, 2


@dataclass(frozen=True)
class FinishedVideo:
    """Known of a video when its last frame is encoded.

    Attributes:
        outcome: `ok` or `partial`, with its reason.
        shot_spans: pairs of seconds, where the sampler finds shots.
        captured: the fields of the `CaptureDate`, where there is one.
    """

    duration_seconds: float
    outcome: str
    reason: str
    decoder: str
    shot_spans: list[list[float]] | None = None
    captured: dict[str, str] | None = None


class UnfinishedVideo:
    """The encoded frames of one video, kept in a file.

    Attributes:
        times_seconds: of all sampled frames.
        rows: for each of them, the encoded frame that it looks like.
        embeddings: `(R, D)` float32, of the encoded frames when the file was opened.
        finished: None while frames are to come.
    """

    def __init__(self, path: Path, *, head: dict, embedding_dim: int) -> None:
        self._file = RecordFile(path, mark=_MARK)
        self._head = json.dumps(head, sort_keys=True).encode()
        self._embedding_dim = embedding_dim
        self.times_seconds: list[float] = []
        self.rows: list[int] = []
        self.embeddings = np.empty((0, embedding_dim), np.float32)
        self.finished: FinishedVideo | None = None
        self._is_new = not self._read()
        if self._is_new:
            self._file.clear()

    def append(
        self,
        embeddings: np.ndarray,
        times_seconds: Sequence[float],
        rows: Sequence[int],
        *,
        first_row: int,
        first_frame: int,
    ) -> None:
        """Keeps encoded frames, in place of those that the file holds from these on.

        Args:
            embeddings: `(n, D)` float32, of the encoded frames from `first_row` on.
            times_seconds: of the sampled frames from `first_frame` on.
            rows: for each of them, the encoded frame that it looks like.
        """
        values = {
            "row": first_row,
            "frame": first_frame,
            "times": list(times_seconds),
            "rows": list(rows),
        }
        data = np.ascontiguousarray(embeddings, dtype=np.float32).tobytes()
        self._write(Record(_FRAMES, json.dumps(values).encode(), data))

    def finish(self, finished: FinishedVideo) -> None:
        """Keeps the outcome, after the last frames."""
        self._write(Record(_END, json.dumps(asdict(finished)).encode(), b""))
        self.finished = finished

    @property
    def file_name(self) -> str:
        """Empty as long as nothing is kept."""
        return "" if self._is_new else self._file.path.name

    def close(self) -> None:
        self._file.close()

    def delete(self) -> None:
        self._file.clear()

    def _write(self, record: Record) -> None:
        if self._is_new:
            make_folder(self._file.path.parent)
            self._file.append(Record(_HEAD, self._head, b""))
            self._is_new = False
        self._file.append(record)

    def _read(self) -> bool:
        """Reads the file; False where it is of other settings or does not exist."""
        embeddings: list[np.ndarray] = [self.embeddings]
        num_rows = 0
        for position, record in enumerate(self._file.read()):
            if (record.number == _HEAD) != (position == 0):
                return False
            values = json.loads(record.text)
            if record.number == _HEAD and record.text != self._head:
                return False
            if record.number == _FRAMES:
                row, frame = values["row"], values["frame"]
                new = np.frombuffer(record.data, np.float32).reshape(-1, self._embedding_dim)
                if row < num_rows:
                    embeddings = [np.concatenate(embeddings)[:row]]
                embeddings.append(new)
                num_rows = row + len(new)
                self.times_seconds[frame:] = values["times"]
                self.rows[frame:] = values["rows"]
                self.finished = None
            elif record.number == _END:
                self.finished = FinishedVideo(**values)
        self.embeddings = np.concatenate(embeddings)
        return len(self.embeddings) > 0


class UnfinishedVideos:
    """The folder of these files; for one process at a time.

    Args:
        folder: made when first written.
        settings: of the encoding; files with other settings are ignored.
        embedding_dim: D.
    """

    def __init__(self, folder: Path, *, settings: str, embedding_dim: int) -> None:
        self._folder = folder
        self._settings = settings
        self._embedding_dim = embedding_dim
        self._open: dict[str, UnfinishedVideo] = {}
        self._added: list[UnfinishedVideo] = []

    def open(self, signature: FileSignature) -> UnfinishedVideo:
        """Returns the kept frames of the video with this content, or a new file for them."""
        content = signature.content_sha256
        head = {"content_sha256": content, "settings": self._settings}
        path = self._folder / f"{content[:32]}{_SUFFIX}"
        video = UnfinishedVideo(path, head=head, embedding_dim=self._embedding_dim)
        self._open[content] = video
        return video

    def add(self, signature: FileSignature) -> None:
        """Marks a video as added: its file goes when the index is saved."""
        video = self._open.pop(signature.content_sha256, None)
        if video is not None:
            video.close()
            self._added.append(video)

    def save(self) -> None:
        """Makes kept frames durable, and deletes those of added videos."""
        for video in self._added:
            video.delete()
        self._added = []
        names = [video.file_name for video in list(self._open.values())]
        if any(names):
            sync_new_folder(self._folder, filter(None, names))

    def close(self) -> None:
        for video in list(self._open.values()):
            video.close()

    def contents(self) -> list[str]:
        """Returns the beginnings of the contents' hashes."""
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))

    def drop(self, content: str) -> None:
        """Deletes the file of a content, by the beginning of its hash."""
        (self._folder / f"{content}{_SUFFIX}").unlink(missing_ok=True)

    def drop_known(self, is_known: Callable[[str], bool]) -> None:
        """Deletes the files of contents that are in the index, and old ones.

        Args:
            is_known: tells of the beginning of a content's hash whether the index has it.
        """
        for content in self.contents():
            if is_known(content):
                self.drop(content)
        self.drop_old()

    def drop_old(self) -> None:
        """Deletes files that no run has come back to for weeks."""
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _KEPT_SECONDS:
                    path.unlink()
