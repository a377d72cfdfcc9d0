"""Catalogue and embeddings -> FAISS files and the manifest that names them: what searchers see."""

from dataclasses import replace
from pathlib import Path

from indexing.catalogue import Catalogue
from indexing.embeddings import EmbeddingParts
from indexing.faiss_index import read_faiss, write_faiss
from indexing.manifest import Manifest

CATALOGUE_NAME = "catalogue.sqlite"
EMBEDDINGS_NAME = "embeddings"
LEVELS = ("video", "moment")


def faiss_path(folder: Path, level: str, generation: int) -> Path:
    return folder / f"{level}-{generation:08d}.faiss"


def publish(
    folder: Path, catalogue: Catalogue, parts: EmbeddingParts, manifest: Manifest
) -> Manifest:
    """Makes what the catalogue holds searchable, if anything has changed since the last time or a
    FAISS file has suffered.

    The manifest is replaced last; files of earlier generations, and embeddings that nothing uses
    any more, are deleted after that.
    """
    revision = catalogue.counter("revision")
    if revision == manifest.revision and _is_intact(folder, manifest):
        return manifest
    generation = manifest.generation + 1
    counts = {}
    for level in LEVELS:
        ids, locations = catalogue.embedding_table(level)
        write_faiss(faiss_path(folder, level, generation), parts.read(locations), ids)
        counts[level] = len(ids)
    published = replace(
        manifest,
        generation=generation,
        revision=revision,
        num_videos=counts["video"],
        num_segments=counts["moment"],
    )
    published.write(folder)
    current = {faiss_path(folder, level, generation) for level in LEVELS}
    for path in folder.glob("*.faiss*"):  # half-written ones of a killed run too
        if path not in current:
            path.unlink()
    parts.keep_only(catalogue.used_parts())
    return published


def _is_intact(folder: Path, manifest: Manifest) -> bool:
    if manifest.generation == 0:
        return False
    counts = {"video": manifest.num_videos, "moment": manifest.num_segments}
    try:
        return all(
            read_faiss(faiss_path(folder, level, manifest.generation)).ntotal == counts[level]
            for level in LEVELS
        )
    except (FileNotFoundError, ValueError):
        return False
