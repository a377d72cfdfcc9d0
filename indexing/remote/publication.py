"""What a publication consists of, and where its files lie below its URL.

`published.json` names every file of the index with its size and SHA-256. The contents lie in
`files/`, each under its SHA-256, so that a file that two generations share is stored once and none
is ever replaced. `published.json` alone changes: a reader finds the old publication or the new one.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST_NAME = "published.json"
FILES = "files"
_FORMAT = 1
_BLOCK_BYTES = 1 << 20
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class PublishedFile:
    """The content of a file."""

    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """Returns its name below the URL."""
        return f"{FILES}/{self.sha256[:2]}/{self.sha256}"


@dataclass(frozen=True)
class Publication:
    """An index as it was published.

    Attributes:
        files: by path below the index's folder, with `/`.
    """

    files: dict[str, PublishedFile]

    @property
    def id(self) -> str:
        """Returns a name for it: two publications of the same files share it."""
        return hashlib.sha256(_canonical(self._values())).hexdigest()[:32]

    @property
    def size_bytes(self) -> int:
        """Bytes of all contents, each counted once."""
        return sum({file.sha256: file.size_bytes for file in self.files.values()}.values())

    def contents(self) -> dict[str, PublishedFile]:
        """Returns one file of each content, by its name below the URL."""
        return {file.name: file for file in self.files.values()}

    def to_json(self) -> bytes:
        values = self._values()
        checksum = hashlib.sha256(_canonical(values)).hexdigest()
        return (json.dumps(values | {"checksum": checksum}, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Publication":
        """Reads what `to_json` wrote.

        Args:
            name: of where it lies, for messages.

        Raises:
            ValueError: it is damaged, of another format, or a path in it leads elsewhere.
        """
        try:
            values = json.loads(data)
            checksum = values.pop("checksum")
            if values["format"] != _FORMAT:
                raise ValueError(f"has format {values['format']}, this version reads {_FORMAT}")
            if checksum != hashlib.sha256(_canonical(values)).hexdigest():
                raise ValueError("its checksum is another")
            files = {
                _plain(path): PublishedFile(_digest(sha256), int(size_bytes))
                for path, (sha256, size_bytes) in values["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"index={name}: {MANIFEST_NAME} is damaged ({error}); publish the index again"
            ) from error
        return cls(files)

    def _values(self) -> dict:
        files = {path: [file.sha256, file.size_bytes] for path, file in self.files.items()}
        return {"format": _FORMAT, "files": dict(sorted(files.items()))}


def is_published_copy(folder: Path) -> bool:
    """Whether the folder of an index lies in a cache of published ones, and is only read."""
    return (folder / MANIFEST_NAME).exists()


def describe(path: Path) -> PublishedFile:
    """Reads a file for its checksum."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return PublishedFile(digest.hexdigest(), size_bytes)


def _canonical(values: dict) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def _plain(path: str) -> str:
    """Refuses a path that leads out of a folder."""
    is_plain = path == PurePosixPath(path).as_posix() and not path.startswith("/")
    if not is_plain or ".." in path.split("/") or "\\" in path or "\0" in path or path == ".":
        raise ValueError(f"{path!r} is not a path below a folder")
    return path


def _digest(text: str) -> str:
    if len(text) != 64 or not set(text) <= _HEX:
        raise ValueError(f"{text!r} is not a SHA-256")
    return text
