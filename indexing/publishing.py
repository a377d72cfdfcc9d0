"""Catalogue and embeddings -> a generation, which searchers open: FAISS shards, a lexical index and
the manifest that names them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from reelseek.indexing.lexical import publishing as lexical_publishing
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import LEVELS, FaissOptions, LevelInfo, Manifest
from reelseek.indexing.vectors.builder import LevelBuilder, Quantiser, level_tables
from reelseek.indexing.vectors.shard import Shard, file_checksum

CATALOGUE_NAME = "videos.sqlite"
EMBEDDINGS_NAME = "embeddings"

# Why main shards are to be rebuilt where only the time for it was lacking.
POSTPONED = "its FAISS indexes are trained at the end of the next run"

_SLACK = 0.02  # of the recall: a measurement on a sample is not exact


def publish(
    folder: Path,
    catalogue: Catalogue,
    parts: EmbeddingParts,
    manifest: Manifest,
    *,
    options: FaissOptions | None = None,
    rebuild: bool = False,
    train: bool = True,
    clears: bool = True,
    quantisers: Mapping[str, Quantiser] = MappingProxyType({}),
) -> Manifest:
    """Makes the catalogue searchable, if anything has changed since the last time or a file is
    damaged.

    Replaces the manifest last, and then deletes the files that only earlier generations use.

    Args:
        options: of the FAISS indexes from now on; default: as they were.
        rebuild: make the main shards anew.
        train: whether main shards may be trained, which takes minutes for a large index; else the
            next publishing that may do so is left a note.
        clears: whether to delete those files; a shard's are in use until the manifest of all shards
            is replaced, too.
        quantisers: for main shards to be filled with instead of training, by level.
    """
    options = manifest.faiss if options is None else options
    revision = catalogue.counter("revision")
    is_same = revision == manifest.revision and options == manifest.faiss and not rebuild
    if (
        is_same
        and manifest.generation
        and not (manifest.rebuild and train)
        and lexical_publishing.is_current(folder, manifest.lexical)
        and not any(file_problems(folder, manifest))
    ):
        return manifest
    generation = manifest.generation + 1
    tables = level_tables(catalogue.scan())
    keeps_options = options == manifest.faiss and not rebuild
    levels, recall, reason = {}, {}, "" if train else manifest.rebuild
    for level in LEVELS:
        builder = LevelBuilder(
            folder,
            level,
            generation,
            parts,
            options,
            tables[level],
            train=train,
            quantiser=quantisers.get(level),
        )
        before = manifest.levels.get(level, LevelInfo()) if keeps_options else LevelInfo()
        again = (train and bool(manifest.rebuild)) or builder.must_rebuild(before)
        made = builder.rebuilt() if again else builder.extended(before)
        made, recalls = builder.probed(made)
        levels[level] = made
        if builder.is_postponed(made):
            reason = POSTPONED
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
    if clears:
        clean(folder, published, parts, catalogue)
    catalogue.checkpoint()
    return published


def clean(folder: Path, manifest: Manifest, parts: EmbeddingParts, catalogue: Catalogue) -> None:
    """Deletes files that the published generation does not use, and those of killed runs."""
    used = {path for level in manifest.levels.values() for path in level.files(folder)}
    for pattern in ("video-*", "moment-*"):
        for path in folder.glob(pattern):
            if path not in used and not path.is_dir():
                path.unlink()
    lexical_publishing.clean(folder, manifest.lexical)
    parts.keep_only({record.location[0] for record in catalogue.scan() if record.location})


def file_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yields a line for each missing or damaged file of the FAISS indexes."""
    for level in manifest.levels.values():
        for info in (level.main, level.delta):
            if info is not None:
                try:
                    Shard(folder, info, embedding_dim=manifest.settings.embedding_dim)
                except FileNotFoundError as error:
                    yield f"{error.filename} is missing"
                except ValueError as error:
                    yield str(error)
        if level.deleted:
            path = folder / level.deleted
            try:
                if file_checksum(path) != level.deleted_checksum:
                    yield f"{path} is damaged"
            except FileNotFoundError:
                yield f"{path} is missing"
            except ValueError as error:
                yield str(error)
