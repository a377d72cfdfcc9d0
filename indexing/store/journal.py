"""Videos that are done and not yet saved: a file that outlives the process that wrote it.

Saving makes embeddings durable against a power loss, which is dear, and so is done every few
seconds; a record here is in the system's hands at once, which is cheap, and what a killed process
has done is taken over by the next. Each record names the part that it is to be saved in: after a
power loss a file may be back that had been deleted, and what it holds has been saved since.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from reelseek.indexing.store.records import Record, RecordFile
from reelseek.indexing.store.videos import FileSignature, NewVideo

_MARK = b"rsj3"


class Journal:
    """The journal of one index, of which there is one writer.

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
        """What a killed process has left; a record that it did not finish is left out.

        Args:
            part: the first number that no saved part has; records with another are saved.
        """
        return [self._video(record) for record in self._file.read() if record.number == part]

    def clear(self) -> None:
        """Forgets all, since it is saved."""
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
