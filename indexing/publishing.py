"""Catalogue and embeddings -> a generation, which searchers open: FAISS shards, a lexical index and
the manifest that names them."""

from dataclasses import replace
from pathlib import Path

from reelseek.indexing.lexical import publishing as lexical_publishing
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LEVELS, FaissOptions, LevelInfo, Manifest
from reelseek.indexing.vectors.builder import LevelBuilder, level_tables
from reelseek.indexing.vectors.shard import Shard, file_checksum

CATALOGUE_NAME = "videos.sqlite"
EMBEDDINGS_NAME = "embeddings"

_SLACK = 0.02  # of the recall: a measurement on a sample is not exact


def publish(
    folder: Path,
    catalogue: Catalogue,
    parts: EmbeddingParts,
    manifest: Manifest,
    *,
    options: FaissOptions | None = None,
    rebuild: bool = False,
) -> Manifest:
    """Makes what the catalogue holds searchable, if anything has changed since the last time or a
    file has suffered.

    The manifest is replaced last; what earlier generations alone used is deleted after that.

    Args:
        options: what the FAISS indexes are to be like from now on; default: as they were.
        rebuild: make the main shards anew.
    """
    options = manifest.faiss if options is None else options
    revision = catalogue.counter("revision")
    is_same = revision == manifest.revision and options == manifest.faiss and not rebuild
    is_lexical_current = lexical_publishing.is_current(folder, manifest.lexical)
    if is_same and not manifest.rebuild and is_lexical_current and _is_intact(folder, manifest):
        return manifest
    generation = manifest.generation + 1
    tables = level_tables(catalogue.scan())
    keeps_options = options == manifest.faiss and not rebuild
    levels, recall, reason = {}, {}, ""
    for level in LEVELS:
        builder = LevelBuilder(folder, level, generation, parts, options, tables[level])
        before = manifest.levels.get(level, LevelInfo()) if keeps_options else LevelInfo()
        again = bool(manifest.rebuild) or builder.must_rebuild(before)
        made = builder.rebuilt() if again else builder.extended(before)
        made, recalls = builder.probed(made)
        levels[level] = made
        if level == "moment":
            recall = recalls
            low = [name for name, fraction in recalls.items() if fraction < options.recall - _SLACK]
            if low and not again:
                reason = f"recall of {' and '.join(low)} queries is below {options.recall}"
    published = replace(
        manifest,
        generation=generation,
        revision=revision,
        num_videos=len(tables["video"]),
        num_segments=len(tables["moment"]),
        faiss=options,
        levels=levels,
        recall=recall,
        rebuild=reason,
        lexical=lexical_publishing.publish_words(
            folder, catalogue, manifest.lexical, generation=generation
        ),
    )
    published.write(folder)
    clean(folder, published, parts, catalogue)
    catalogue.checkpoint()
    return published


def clean(folder: Path, manifest: Manifest, parts: EmbeddingParts, catalogue: Catalogue) -> None:
    """Deletes what the published generation does not use, and what a killed run was writing."""
    used = {path for level in manifest.levels.values() for path in level.files(folder)}
    for pattern in ("video-*", "moment-*"):
        for path in folder.glob(pattern):
            if path not in used and not path.is_dir():
                path.unlink()
    lexical_publishing.clean(folder, manifest.lexical)
    parts.keep_only({record.location[0] for record in catalogue.scan() if record.location})


def _is_intact(folder: Path, manifest: Manifest) -> bool:
    """Whether all files of the published generation are what was written."""
    if manifest.generation == 0:
        return False
    try:
        for level in manifest.levels.values():
            for info in (level.main, level.delta):
                if info is not None:
                    Shard(folder, info, embedding_dim=manifest.settings.embedding_dim)
            if level.deleted and file_checksum(folder / level.deleted) != level.deleted_checksum:
                return False
    except (FileNotFoundError, ValueError):
        return False
    return True
