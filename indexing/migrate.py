"""`python -m indexing.migrate index=DIR`: brings an index of format 2 or 3 to this one, in place.

Embeddings and entries are copied, not made again. Until the new manifest replaces the old one, the
index is what it was; after a crash the same command begins anew.
"""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from configs import command_line
from configs.schema import MigrateConfig
from indexing.catalogue import Catalogue, FileStamp, NewVideo
from indexing.embeddings import EmbeddingParts
from indexing.manifest import FORMAT_VERSION, IndexSettings, Manifest
from indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from indexing.upgrade import is_old, split_path, upgrade_catalogue
from indexing.writer import IndexWriter, only_writer

USAGE = """usage: python -m indexing.migrate index=DIR

Brings an index of an older format to this version's, in place and without decoding a video. The
last line on stdout is a JSON object."""

_OLD_CATALOGUE = "catalogue.sqlite"


def migrate_index(folder: Path) -> int:
    """Returns how many videos the index holds.

    Raises:
        ValueError: the folder is not an index of format 2 or 3, or is damaged, or is being written.
    """
    try:
        old = json.loads(Manifest.path(folder).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its manifest is damaged"
        raise ValueError(f"index={folder}: is not an index ({reason})") from error
    version = old.get("format") if isinstance(old, dict) else None
    if version == FORMAT_VERSION:
        if Manifest.read(folder).revision >= 0 or not (folder / CATALOGUE_NAME).is_file():
            raise ValueError(f"index={folder}: has format {FORMAT_VERSION} already")
    elif version == 3:
        with only_writer(folder):
            _upgrade(folder)
        return Manifest.read(folder).num_videos
    elif version != 2 or "checksum" in old:  # format 2 had none: then its number has suffered
        raise ValueError(f"index={folder}: has format {version}, which cannot be migrated")
    else:
        try:
            values = old["settings"]
            values["segments"] = {"kind": "windows"} | values["segments"]
            migrated = Manifest(
                IndexSettings(**values), generation=int(old["generation"]), revision=-1
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{Manifest.path(folder)} is damaged ({type(error).__name__}: {error})"
            ) from error
        with only_writer(folder):
            _copy(folder, migrated.settings)
            migrated.write(folder)
    with IndexWriter(folder) as writer:
        manifest = writer.publish()
    for path in (*folder.glob(f"{_OLD_CATALOGUE}*"), folder / "unsaved.journal"):
        path.unlink(missing_ok=True)
    return manifest.num_videos


def _upgrade(folder: Path) -> None:
    """From format 3, which had neither roots nor public ids; all else stays."""
    manifest = Manifest.read(folder, version=3)
    path = folder / CATALOGUE_NAME
    if not path.is_file():
        raise ValueError(f"{path} is missing: index again into a new folder")
    try:
        if is_old(path):
            upgrade_catalogue(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); repair it with the version of reelseek that made it, or "
            "index again into a new folder"
        ) from error
    manifest.write(folder)


def _copy(folder: Path, settings: IndexSettings) -> None:
    """Makes the new catalogue and the new parts beside the old ones."""
    old_path = folder / _OLD_CATALOGUE
    if not old_path.is_file():
        raise ValueError(f"{old_path} is missing: index again into a new folder")
    try:
        _copy_entries(folder, settings)
    except (sqlite3.DatabaseError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise ValueError(
            f"{old_path} is damaged ({type(error).__name__}: {error}); index again into a new "
            "folder"
        ) from error


def _copy_entries(folder: Path, settings: IndexSettings) -> None:
    old_path = folder / _OLD_CATALOGUE
    for path in folder.glob(f"{CATALOGUE_NAME}*"):  # of a migration that was cut short
        path.unlink()
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=settings.embedding_dim)
    next_part = max(parts.numbers(), default=0) + 1
    old_parts: dict[int, np.ndarray] = {}

    def read(part: int, row: int) -> np.ndarray:
        if part not in old_parts:
            path = folder / EMBEDDINGS_NAME / f"part-{part:08d}.npy"
            try:
                old_parts[part] = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ValueError(
                    f"{path} is missing or damaged; index again into a new folder"
                ) from error
        rows = old_parts[part]
        if rows.shape[1:] != (settings.embedding_dim,) or not 0 <= row < len(rows):
            raise ValueError(
                f"{folder / EMBEDDINGS_NAME}: part-{part:08d}.npy does not hold what the entries "
                "name; index again into a new folder"
            )
        return rows[row]

    with (
        closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue,
        closing(sqlite3.connect(f"{old_path.absolute().as_uri()}?mode=ro", uri=True)) as old,
    ):
        videos: list[NewVideo] = []
        rows: list[np.ndarray] = []
        locations: list[tuple[int, int] | None] = []
        old.row_factory = sqlite3.Row
        for entry in old.execute("SELECT * FROM videos ORDER BY id"):
            segments = old.execute(
                "SELECT * FROM segments WHERE video_id = ? ORDER BY id", (entry["id"],)
            ).fetchall()
            spans = [(segment["start_seconds"], segment["end_seconds"]) for segment in segments]
            videos.append(
                NewVideo(
                    key=entry["key"],
                    path=entry["path"],
                    stamp=FileStamp(
                        entry["size_bytes"], entry["modified_ns"], entry["content_sha256"]
                    ),
                    outcome=entry["outcome"],
                    reason=entry["reason"],
                    decoder=entry["decoder"],
                    num_frames=entry["num_frames"],
                    duration_seconds=entry["duration_seconds"],
                    metadata=_metadata(entry),
                    spans=np.array(spans).reshape(-1, 2),
                )
            )
            root, key = split_path(entry["key"], entry["path"])
            videos[-1] = replace(videos[-1], root=root, key=key)
            has_rows = entry["part"] is not None
            locations.append((next_part, len(rows)) if has_rows else None)
            if has_rows:
                rows += [read(place["part"], place["row"]) for place in (entry, *segments)]
        if rows:
            parts.append(np.stack(rows), part=next_part)
        catalogue.store(videos, locations, next_part=next_part + 1)


def _metadata(entry: sqlite3.Row) -> dict:
    try:
        return json.loads(entry["metadata"])
    except ValueError as error:
        raise ValueError(
            f"{_OLD_CATALOGUE}: the metadata of {entry['key']} is damaged ({error})"
        ) from error


def main(cfg: DictConfig) -> None:
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, MigrateConfig)
    command_line.print_json({"searchable": migrate_index(Path(config.index))})


if __name__ == "__main__":
    command_line.run(main, config_name="migrate", usage=USAGE)
