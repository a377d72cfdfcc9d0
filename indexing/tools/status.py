"""`python -m indexing.status index=DIR`: prints the contents and the recall of an index."""

from collections import Counter
from pathlib import Path
from typing import Any

from reelseek.configs import command_line
from reelseek.configs.schema import StatusConfig
from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.manifest import LexicalInfo, Manifest
from reelseek.indexing.vectors.shard import ShardInfo

USAGE = """usage: python -m indexing.status index=DIR [json=true]

Says what an index holds, which FAISS indexes it has, and the recall that was measured when it was
last published."""


def index_status(folder: Path) -> dict[str, Any]:
    """Returns the contents of an index and its measured recall.

    Raises:
        ValueError: the folder is not an index, or is damaged.
    """
    manifest = Manifest.read(folder)
    catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
    try:
        outcomes = Counter(record.outcome for record in catalogue.scan())
        unpublished = catalogue.counter("revision") - manifest.revision
    finally:
        catalogue.close()
    try:
        levels = {
            name: [
                _shard_status(folder, role, shard)
                for role, shard in (("main", level.main), ("delta", level.delta))
                if shard is not None
            ]
            for name, level in manifest.levels.items()
        }
    except FileNotFoundError as error:
        raise ValueError(
            f"index={folder}: lacks {error.filename}; run reelseek repair --index {folder}"
        ) from error
    return {
        "index": str(folder),
        "model": manifest.settings.model.get("name"),
        "generation": manifest.generation,
        "changes_not_published": unpublished,
        "videos": dict(sorted(outcomes.items())),
        "searchable_videos": manifest.num_videos,
        "searchable_segments": manifest.num_segments,
        "faiss": levels,
        "recall_wanted": manifest.faiss.recall,
        "recall": manifest.recall,
        "rebuild": manifest.rebuild,
        "words": None if manifest.lexical is None else _words_status(folder, manifest.lexical),
        "bytes_embeddings": _size(folder / EMBEDDINGS_NAME),
        "bytes_all": _size(folder),
    }


def _shard_status(folder: Path, role: str, shard: ShardInfo) -> dict[str, Any]:
    return {
        "shard": role,
        "kind": shard.kind,
        "vectors": shard.count,
        "bytes_each": round(shard.files(folder)[0].stat().st_size / max(1, shard.count)),
        "tuning": shard.tuning,
    }


def _words_status(folder: Path, lexical: LexicalInfo) -> dict[str, Any]:
    return {
        "videos": lexical.num_documents.get("video", 0),
        "timed_texts": lexical.num_documents.get("moment", 0),
        "bytes": _size(folder / lexical.name),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(config: StatusConfig) -> None:
    status = index_status(Path(config.index))
    if config.json:
        command_line.print_json(status)
        return
    for name, value in status.items():
        if name == "faiss":
            for level, shards in value.items():
                for shard in shards:
                    tuning = " ".join(f"{key}={number}" for key, number in shard["tuning"].items())
                    print(
                        f"{level + ' ' + shard['shard']:>24}: {shard['kind']}, {shard['vectors']} "
                        f"vectors of {shard['bytes_each']} bytes{', ' + tuning if tuning else ''}"
                    )
        elif name == "recall":
            recalls = ", ".join(
                f"{fraction:.3f} ({sort} queries)" for sort, fraction in value.items()
            )
            print(f"{name:>24}: {recalls or 'exact'}")
        elif name == "words":
            counts = [] if value is None else value.items()
            said = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts)
            print(f"{name:>24}: {said or 'not indexed'}")
        elif name == "videos":
            print(f"{name:>24}: {', '.join(f'{count} {what}' for what, count in value.items())}")
        else:
            print(f"{name.replace('_', ' '):>24}: {value if value != '' else 'not needed'}")
