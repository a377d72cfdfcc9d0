"""A completion model in a folder: built offline, opened memory-mapped, replaced while it is served.

    completion.json          the version that holds, its checksums and what it was built with
    VERSION/*.marisa         tries, in marisa's own format
    VERSION/arrays.safetensors

A version's files are written first; `completion.json`, which names it, comes last and at once. The
version before stays, for those who have just read its name.
"""

import json
import secrets
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.store.atomic import make_folder, publish_file, write_atomically
from reelseek.recommendation.completion.also_searched import AlsoSearched
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.completer import Completer
from reelseek.recommendation.completion.mapped_tensors import map_tensors
from reelseek.recommendation.completion.phrases import Phrases
from reelseek.recommendation.completion.word_model import WordModel

DEFAULT_FOLDER = "completion"  # in that of the events
MANIFEST_NAME = "completion.json"
_FORMAT = 1
_ARRAYS_NAME = "arrays.safetensors"
_TRIES = ("phrases", "prefixes", "words")
_CHUNK_BYTES = 1 << 24
_NUM_KEPT = 2  # versions


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """What a build makes, before it is written.

    Attributes:
        tries: by the names in `_TRIES`; `words` may be missing.
        arrays: of phrases, words and what is also searched.
        details: what the manifest says besides: `min_users`, `alphabet`, `block_list`,
            `log_position`, and figures for people.
    """

    tries: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class CompletionModel:
    """An opened model; threads may share it.

    Attributes:
        version: its name.
        completer: completes what is typed.
        also_searched: what is asked after a query.
        log_position: of the last event it was built from.
    """

    version: str
    completer: Completer
    also_searched: AlsoSearched
    log_position: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


def save_model(folder: Path, built: BuiltModel) -> str:
    """Writes a new version, makes it the one that holds, and removes old ones; returns its name.

    Raises:
        OSError: the disk is full or cannot be written; the version before still holds.
    """
    from safetensors.numpy import save_file

    version = f"v-{secrets.token_hex(8)}"
    target = folder / version
    make_folder(target)
    try:
        for name, trie in built.tries.items():
            publish_file(target / f"{name}.marisa", lambda path, trie=trie: trie.save(str(path)))  # type: ignore[misc]
        arrays = {name: np.ascontiguousarray(array) for name, array in built.arrays.items()}
        publish_file(target / _ARRAYS_NAME, lambda path: save_file(arrays, path))
        names = [*(f"{name}.marisa" for name in built.tries), _ARRAYS_NAME]
        manifest = {
            **built.details,
            "format": _FORMAT,
            "version": version,
            "files": {name: _signature(target / name) for name in names},
        }
        content = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        write_atomically(folder / MANIFEST_NAME, content.encode())
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    _remove_old(folder, version)
    return version


def open_model(folder: Path, *, option: str = "completion") -> CompletionModel:
    """Opens the version that holds, after checking it.

    Args:
        option: that named the folder, for messages.

    Raises:
        ValueError: there is none, it is damaged, or of another format.
    """
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
            raise ValueError(f"it is not of format {_FORMAT}")
        version = str(manifest["version"])
        if "/" in version or not version.startswith("v-"):
            raise ValueError("the name of its version is wrong")
        for name, expected in manifest["files"].items():
            if _signature(folder / version / Path(name).name) != expected:
                raise ValueError(f"the checksum of {version}/{name} is wrong")
        return _opened(folder / version, manifest)
    except KeyError as error:
        raise ValueError(_unreadable(option, folder, f"it lacks {error.args[0]}")) from error
    except (OSError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise ValueError(_unreadable(option, folder, reason)) from error


def _unreadable(option: str, folder: Path, reason: str) -> str:
    return f"{option}={folder}: holds no completion that can be read ({reason}); build it again"


def _opened(folder: Path, manifest: Mapping[str, Any]) -> CompletionModel:
    import marisa_trie

    tries = {}
    for name in _TRIES:
        path = folder / f"{name}.marisa"
        if path.name in manifest["files"]:
            tries[name] = marisa_trie.Trie().mmap(str(path))
    arrays = map_tensors(folder / _ARRAYS_NAME)
    phrases = Phrases(tries, arrays)
    words = WordModel.from_tensors(arrays, trie=tries["words"]) if "words" in tries else None
    completer = Completer(
        phrases,
        words,
        block_list=BlockList(map(str, manifest["block_list"])),
        alphabet=str(manifest["alphabet"]),
        min_users=int(manifest["min_users"]),
    )
    also_searched = AlsoSearched(phrases, arrays, completer.block_list)
    return CompletionModel(
        str(manifest["version"]), completer, also_searched, int(manifest["log_position"]), manifest
    )


def _signature(path: Path) -> dict[str, int]:
    checksum, size = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum, size = zlib.crc32(chunk, checksum), size + len(chunk)
    return {"crc32": checksum, "size_bytes": size}


def _remove_old(folder: Path, version: str) -> None:
    others = [path for path in folder.glob("v-*") if path.is_dir() and path.name != version]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[_NUM_KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
