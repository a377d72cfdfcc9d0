"""Videos that are done and not yet saved, in a file that outlives the process that wrote it.

Saving syncs embeddings to disk, which is slow and done every few seconds. A record here only goes
to the operating system, which is fast; the next process takes over the records of a killed one.
Each record names the part that it will be saved in: a power loss may bring back a deleted file,
whose records have been saved since.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from reelseek.indexing.store.records import Record, RecordFile
from reelseek.indexing.store.videos import FileSignature, NewVideo

_MARK = b"rsj3"


class Journal:
    """The journal of one index, with one writer.

    Args:
        path: made when first written.
        embedding_dim: D.
    """

    def __init__(self, path: Path, *, embedding_dim: int) -> None:
        self._file = RecordFile(path, mark=_MARK)
        self._embedding_dim = embedding_dim

    def append(self, video: NewVideo, embeddings: np.ndarray, *, part: int) -> None:
        """Adds a video and its embeddings, `(1 + S + T, D)`, or `(0, D)` where it failed.

        Args:
            part: the first number that no saved part has.
        """
        plain = replace(video, spans=video.spans.tolist(), frame_times=video.frame_times.tolist())
        text = json.dumps(asdict(plain)).encode()
        rows = np.ascontiguousarray(embeddings, dtype=np.float16).tobytes()
        self._file.append(Record(part, text, rows))

    def read(self, *, part: int) -> list[tuple[NewVideo, np.ndarray]]:
        """Returns the videos that a killed process left, without an unfinished record.

        Args:
            part: the first number that no saved part has; records with another are saved.
        """
        return [self._video(record) for record in self._file.read() if record.number == part]

    def clear(self) -> None:
        """Deletes all records, after they are saved."""
        self._file.clear()

    def close(self) -> None:
        self._file.close()

    def _video(self, record: Record) -> tuple[NewVideo, np.ndarray]:
        values = json.loads(record.text)
        # Journals of 0.1 call it `stamp`.
        signature = values.pop("stamp", None) or values["signature"]
        values["signature"] = FileSignature(**signature)
        values["spans"] = np.array(values["spans"], dtype=np.float64).reshape(-1, 2)
        values["frame_times"] = np.array(values["frame_times"], dtype=np.float64)
        embeddings = np.frombuffer(record.data, dtype=np.float16).reshape(-1, self._embedding_dim)
        return NewVideo(**values), embeddings
