"""The one small file that says what an index is: `manifest.json`.

Whoever opens an index reads it first; whoever publishes one replaces it last, atomically, so that
it always names files that are complete.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from indexing.atomic import write_atomically

FORMAT_VERSION = 2
_FILE_NAME = "manifest.json"


class IndexMismatchError(ValueError):
    """An index and what is asked of it do not fit: another model, sampling or format."""


@dataclass(frozen=True)
class IndexSettings:
    """What may not change while an index lives, since old and new embeddings must compare.

    Attributes:
        model: the fields of the `ModelSpec`.
        fingerprint: of the model's weights, preprocessing and tokenizer.
        embedding_dim: D.
        sampling: the sampling's kind and numbers.
        segments: `seconds` and `overlap_seconds`.
    """

    model: dict
    fingerprint: str
    embedding_dim: int
    sampling: dict
    segments: dict


@dataclass(frozen=True)
class Manifest:
    """One published state of an index.

    Attributes:
        generation: 0 before anything was published, then counting up; names the FAISS files.
        revision: the catalogue's count of changes that this generation holds.
        num_videos: searchable videos.
        num_segments: searchable segments.
    """

    settings: IndexSettings
    generation: int = 0
    revision: int = 0
    num_videos: int = 0
    num_segments: int = 0

    def write(self, folder: Path) -> None:
        values = {"format": FORMAT_VERSION} | asdict(self)
        write_atomically(folder / _FILE_NAME, (json.dumps(values, indent=2) + "\n").encode())

    @staticmethod
    def exists(folder: Path) -> bool:
        return (folder / _FILE_NAME).is_file()

    @staticmethod
    def is_unfinished(path: Path) -> bool:
        """Whether this is a manifest that a killed run was about to publish."""
        return path.name.startswith(f"{_FILE_NAME}.") and path.suffix == ".tmp"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads the manifest of an index.

        Raises:
            ValueError: the folder is missing or is not an index, or the manifest is damaged.
            IndexMismatchError: the index was written by another version of the format.
        """
        if not folder.is_dir():
            found = "is a file, not an index" if folder.exists() else "no such folder"
            raise ValueError(f"index={folder}: {found}; make one with python -m indexing")
        if not cls.exists(folder):
            raise ValueError(
                f"index={folder}: is not an index (it has no {_FILE_NAME}); make one with "
                "python -m indexing"
            )
        try:
            values = json.loads((folder / _FILE_NAME).read_bytes())
            version = values.pop("format")
            if version == FORMAT_VERSION:  # another may well have other fields
                return cls(settings=IndexSettings(**values.pop("settings")), **values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"index={folder}: {_FILE_NAME} is damaged ({type(error).__name__}); index again "
                "into a new folder"
            ) from error
        raise IndexMismatchError(
            f"index={folder}: has format {version}, this version of reelseek reads "
            f"{FORMAT_VERSION}; index again into a new folder"
        )


def check_settings(asked: IndexSettings, has: IndexSettings, folder: Path) -> None:
    """Refuses to mix embeddings that do not compare.

    Raises:
        IndexMismatchError: names the first difference.
    """
    if asked.fingerprint != has.fingerprint:
        raise IndexMismatchError(
            f"index={folder}: was built with model={_name(has)} (fingerprint "
            f"{has.fingerprint[:8]}), not model={_name(asked)} ({asked.fingerprint[:8]}); use that "
            "model, or index into another folder"
        )
    for part in ("sampling", "segments"):
        if getattr(asked, part) != getattr(has, part):
            raise IndexMismatchError(
                f"index={folder}: was built with {part} {getattr(has, part)}, not "
                f"{getattr(asked, part)}; leave {part} out, or index into another folder"
            )


def _name(settings: IndexSettings) -> str:
    return str(settings.model.get("name"))
