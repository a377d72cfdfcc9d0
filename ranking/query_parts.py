"""The parts that a query is made of: sentences, images, videos, and what an index holds already."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from reelseek.indexing.candidates import CandidateVideo

if TYPE_CHECKING:
    from PIL import Image

_MIN_LENGTH = 1e-6  # of a vector, below which it has no direction


@dataclass(frozen=True)
class Similar:
    """A video of the index, or a stretch of it, that hits should be like.

    Attributes:
        id: public id, as hits have it.
        start_seconds: start of the stretch; None for the video's start.
        end_seconds: its end; None for the video's end. Without both, the whole video counts.

    Raises:
        ValueError: the stretch is empty, or begins before 0.
    """

    id: str
    start_seconds: float | None = None
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        start, end = self.start_seconds or 0.0, self.end_seconds
        if not 0 <= start < math.inf:
            raise ValueError(f"start_seconds={start}: must be at least 0")
        if end is not None and not start < end:
            raise ValueError(f"end_seconds={end}: must be more than start_seconds ({start})")

    def embedding_in(self, video: CandidateVideo) -> np.ndarray:
        """`(D,)` float32, L2-normalised: of the whole video, or the mean of the segments that
        overlap the stretch.

        Raises:
            ValueError: none does.
        """
        if self.start_seconds is None and self.end_seconds is None:
            return video.embeddings[0]
        start = self.start_seconds or 0.0
        end = math.inf if self.end_seconds is None else self.end_seconds
        inside = (video.spans[:, 0] < end) & (video.spans[:, 1] > start)
        if not inside.any():
            raise ValueError(
                f"id={self.id}: nothing of the video is between {start:g} and {end:g} s; it is "
                f"{video.record.duration_seconds:.1f} s long"
            )
        return unit(video.embeddings[1:][inside].mean(axis=0))


# What an encoder encodes: a sentence, the path of an image or a video, or a Pillow image.
EncodedPart: TypeAlias = Union[str, Path, "Image.Image"]
# Or what needs no encoder: a part of the index, or an embedding `(D,)`.
Part: TypeAlias = EncodedPart | Similar | np.ndarray
# Or several, all of which the answer should be like; with weights, or below 0, unlike.
Query: TypeAlias = Part | Sequence[Part | tuple[Part, float]] | Mapping[Part, float]


def query_parts(query: Any) -> list[tuple[Any, Any]]:
    """Returns the parts of a query, each with its weight."""
    if isinstance(query, Mapping):
        return list(query.items())
    if isinstance(query, list | tuple):
        return [part if _is_weighted(part) else (part, 1.0) for part in query]
    return [(query, 1.0)]


def is_composed(query: Any) -> bool:
    """Whether a query is a list or a mapping of parts."""
    return isinstance(query, Mapping | list | tuple)


def check_embedding(embedding: np.ndarray, embedding_dim: int) -> np.ndarray:
    """Returns an embedding that was given ready as `(D,)` float32, L2-normalised.

    Raises:
        ValueError: it has another shape, values that are not finite, or is 0.
    """
    embedding = np.asarray(embedding, dtype=np.float32)
    if embedding.shape != (embedding_dim,):
        raise ValueError(
            f"the query's embedding is {embedding.shape}: must be ({embedding_dim},), as the "
            "index's are"
        )
    if not (np.isfinite(embedding).all() and np.linalg.norm(embedding) >= _MIN_LENGTH):
        raise ValueError("the query's embedding holds values that are not finite, or is 0")
    return unit(embedding)


def unit(vector: np.ndarray) -> np.ndarray:
    """`(D,)` float32, L2-normalised."""
    length = float(np.linalg.norm(vector))
    return (vector / max(length, _MIN_LENGTH)).astype(np.float32)


def _is_weighted(part: Any) -> bool:
    return (
        isinstance(part, tuple)
        and len(part) == 2
        and isinstance(part[1], Real)
        and not isinstance(part[1], bool)
    )
