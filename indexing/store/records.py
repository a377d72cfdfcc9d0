"""An append-only file of records, which outlive the process that wrote them.

Reading ends at a record that a killed process has not finished. A record that the disk has no room
for is cut off again, and the error names the file.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_HEAD = struct.Struct("<4sIIII")  # mark, number, bytes of text, bytes of data, checksum of them


class Record(NamedTuple):
    """Attributes:
    number: 0 to 2^32 - 1, for the caller's use.
    """

    number: int
    text: bytes
    data: bytes


class RecordFile:
    """One file, with one writer.

    Args:
        path: of the file, in an existing folder; made when first written.
        mark: four bytes that name the format of the records.
    """

    def __init__(self, path: Path, *, mark: bytes) -> None:
        self.path = path
        self._mark = mark
        self._file: BinaryIO | None = None
        self._size = 0

    def append(self, record: Record) -> None:
        """Hands a record to the system, whole or not at all.

        Raises:
            OSError: there is no room; names the file.
        """
        try:
            if self._file is None:
                self._size = self._whole_bytes()
                self._file = self.path.open("ab", buffering=0)
                self._file.truncate(self._size)
            checksum = zlib.crc32(record.text + record.data, record.number)
            sizes = len(record.text), len(record.data)
            head = _HEAD.pack(self._mark, record.number, *sizes, checksum)
            rest = memoryview(head + record.text + record.data)
            size = self._size + len(rest)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size = size
        except OSError as error:
            if self._file is not None:
                self._file.truncate(self._size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def read(self) -> Iterator[Record]:
        """Yields the whole records; none where there is no file."""
        try:
            with self.path.open("rb") as file:
                yield from self._records(file)
        except FileNotFoundError:
            return

    def clear(self) -> None:
        """Deletes the file."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _whole_bytes(self) -> int:
        """Returns the size up to the end of the last whole record."""
        return sum(_HEAD.size + len(record.text) + len(record.data) for record in self.read())

    def _records(self, file: BinaryIO) -> Iterator[Record]:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            mark, number, num_text, num_data, checksum = _HEAD.unpack(head)
            text, data = file.read(num_text), file.read(num_data)
            if mark != self._mark or zlib.crc32(text + data, number) != checksum:
                return
            yield Record(number, text, data)
