"""Videos that are done and not yet saved: a file that outlives the process that wrote it.

Saving makes embeddings durable against a power loss, which is dear, and so is done every few
seconds; a record here is in the system's hands at once, which is cheap, and what a killed process
has done is taken over by the next. Each record names the part that it is to be saved in: after a
power loss a file may be back that had been deleted, and what it holds has been saved since.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from indexing.catalogue import FileStamp, NewVideo

_HEAD = struct.Struct("<4sIIII")  # mark, part, bytes of JSON, bytes of rows, checksum of them
_MARK = b"rsj3"


class Journal:
    """The journal of one index, of which there is one writer.

    Args:
        path: made when first written.
        embedding_dim: D.
    """

    def __init__(self, path: Path, *, embedding_dim: int) -> None:
        self._path = path
        self._embedding_dim = embedding_dim
        self._file: BinaryIO | None = None

    def append(self, video: NewVideo, embeddings: np.ndarray, *, part: int) -> None:
        """Adds a video and its embeddings, `(1 + S + T, D)`, or `(0, D)` where it failed.

        Args:
            part: the first number that no saved part has.
        """
        plain = replace(video, spans=video.spans.tolist(), frame_times=video.frame_times.tolist())
        text = json.dumps(asdict(plain)).encode()
        rows = np.ascontiguousarray(embeddings, dtype=np.float16).tobytes()
        if self._file is None:
            self._file = self._path.open("ab", buffering=0)
        head = _HEAD.pack(_MARK, part, len(text), len(rows), zlib.crc32(text + rows, part))
        self._file.write(head + text + rows)

    def read(self, *, part: int) -> list[tuple[NewVideo, np.ndarray]]:
        """What a killed process has left; a record that it did not finish is left out.

        Args:
            part: the first number that no saved part has; records with another are saved.
        """
        try:
            with self._path.open("rb") as file:
                return [(video, rows) for of, video, rows in self._records(file) if of == part]
        except FileNotFoundError:
            return []

    def clear(self) -> None:
        """Forgets all, since it is saved."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _records(self, file: BinaryIO) -> Iterator[tuple[int, NewVideo, np.ndarray]]:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            mark, part, num_text, num_rows, checksum = _HEAD.unpack(head)
            text, rows = file.read(num_text), file.read(num_rows)
            if mark != _MARK or zlib.crc32(text + rows, part) != checksum:
                return
            values = json.loads(text)
            values["stamp"] = FileStamp(**values["stamp"])
            values["spans"] = np.array(values["spans"], dtype=np.float64).reshape(-1, 2)
            values["frame_times"] = np.array(values["frame_times"], dtype=np.float64)
            embeddings = np.frombuffer(rows, dtype=np.float16).reshape(-1, self._embedding_dim)
            yield part, NewVideo(**values), embeddings
