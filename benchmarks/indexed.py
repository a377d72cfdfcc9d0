"""An index on disk -> arrays of everything in it, for benchmarks that rank by themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reelseek.indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.embeddings import EmbeddingParts
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.videos import VideoRecord


class Indexed(NamedTuple):
    """N videos, in the order of their ids, with all their rows.

    Attributes:
        records: of the catalogue, `(N,)`.
        videos: `(N, D)`.
        segments, segment_counts: `(S, D)`, and how many each video has, `(N,)`.
        frames, frame_counts: `(T, D)`, likewise.
    """

    records: list[VideoRecord]
    videos: np.ndarray
    segments: np.ndarray
    segment_counts: np.ndarray
    frames: np.ndarray
    frame_counts: np.ndarray

    @property
    def captions(self) -> list[list[str]]:
        return [record.metadata.get("captions", []) for record in self.records]


def read_indexes(folders: Sequence[Path]) -> Indexed:
    """Several indexes of one model, one after the other."""
    parts = [_read(folder) for folder in folders]
    return Indexed(
        [record for part in parts for record in part.records],
        *(np.concatenate([part[index] for part in parts]) for index in range(1, 6)),
    )


def _read(folder: Path) -> Indexed:
    dim = Manifest.read(folder).settings.embedding_dim
    rows_of = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=dim)
    catalogue = Catalogue(folder / CATALOGUE_NAME, read_only=True)
    records = [record for record in catalogue.scan() if record.location is not None]
    catalogue.close()
    indices = [record.location for record in records if record.location is not None]
    rows = [
        rows_of.read_run(part, first, record.num_rows)
        for (part, first), record in zip(indices, records, strict=True)
    ]
    counts = np.array([len(record.spans) for record in records])
    return Indexed(
        records,
        np.stack([each[0] for each in rows]),
        np.concatenate([each[1 : 1 + n] for each, n in zip(rows, counts, strict=True)]),
        counts,
        np.concatenate([each[1 + n :] for each, n in zip(rows, counts, strict=True)]),
        np.array([len(record.frame_times) for record in records]),
    )


def interval(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % of the mean of `(n,)` values, drawn again with replacement."""
    draws = np.random.default_rng(seed).integers(len(values), size=(2_000, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def open_model(name: str) -> tuple[Any, Any]:
    """A model, and its tokenizer as `TextEncoder` and `TokenEncoder` take it."""
    from reelseek.configs.command_line import load_model_config
    from reelseek.text import Tokenizer
    from reelseek.vision import load_model

    model = load_model(load_model_config(name).spec())
    return model, Tokenizer(model.tokenize, context_length=model.context_length)
