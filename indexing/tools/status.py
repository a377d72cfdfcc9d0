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
    if manifest.sharding is None:
        return _status(folder, manifest)
    shards = {
        shard.name: _status(shard, own) for shard, own in manifest.shard_manifests(folder).items()
    }
    clusters = manifest.sharding.clusters
    placement: dict[str, Any] = {"by": manifest.sharding.placement}
    if clusters is not None:
        placement |= {"shards_asked": clusters.num_asked, "recall": clusters.recall}
    return _totals(folder, manifest, list(shards.values())) | {
        "placement": placement,
        "shards": {
            name: {key: shard[key] for key in ("generation", "searchable_videos", "bytes_all")}
            for name, shard in shards.items()
        },
    }


def _status(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Describes an ordinary index, or a shard."""
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


def _totals(folder: Path, manifest: Manifest, shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Adds up what the shards hold; FAISS indexes of one kind are one."""
    videos: Counter[str] = Counter()
    faiss: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for shard in shards:
        videos.update(shard["videos"])
        for level, indexes in shard["faiss"].items():
            for own in indexes:
                known = faiss.setdefault(level, {}).setdefault(
                    (own["shard"], own["kind"]), own | {"vectors": 0, "bytes_each": 0, "tuning": {}}
                )
                count = known["vectors"] + own["vectors"]
                size = sum(each["vectors"] * each["bytes_each"] for each in (known, own))
                known |= {"vectors": count, "bytes_each": round(size / max(1, count))}
    words = [shard["words"] for shard in shards if shard["words"] is not None]
    return {
        **shards[0],
        "index": str(folder),
        "generation": manifest.generation,
        "changes_not_published": sum(shard["changes_not_published"] for shard in shards),
        "videos": dict(sorted(videos.items())),
        "searchable_videos": manifest.num_videos,
        "searchable_segments": manifest.num_segments,
        "faiss": {level: list(indexes.values()) for level, indexes in faiss.items()},
        "recall": manifest.recall,
        "rebuild": manifest.rebuild,
        "words": {name: sum(each[name] for each in words) for name in words[0]} if words else None,
        "bytes_embeddings": sum(shard["bytes_embeddings"] for shard in shards),
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
        elif name == "shards":
            counts = [str(shard["searchable_videos"]) for shard in value.values()]
            print(f"{name:>24}: {len(counts)}, of {', '.join(counts)} videos")
        elif name == "placement":
            asked = ""
            if "shards_asked" in value:
                recalls = ", ".join(
                    f"{each:.3f} ({sort} queries)" for sort, each in value["recall"].items()
                )
                asked = f"; a search asks {value['shards_asked']}, which hold {recalls}"
            print(f"{name:>24}: {value['by']}{asked}")
        elif name == "videos":
            print(f"{name:>24}: {', '.join(f'{count} {what}' for what, count in value.items())}")
        else:
            print(f"{name.replace('_', ' '):>24}: {value if value != '' else 'not needed'}")
