"""Vectors for measuring search: real frame embeddings, grown to any number, and real queries.

A grown vector lies between a real frame and one of its ten nearest others, with noise along the
differences of other such neighbours, half as long as they typically are, and is normalised: so it
stays in the few directions in which real frames differ. Queries: captions, which lie elsewhere than
frames do, and vectors grown like the stored ones.
"""

from pathlib import Path

import faiss
import numpy as np

from reelseek.indexing import collect_videos
from reelseek.indexing.pipeline import encode_videos

_BLOCK = 100_000
_NEIGHBOURS = 10
_NEAR_COPY = 0.05  # L2 distance below which two frames are taken for the same picture
_MOVEMENTS = 8  # differences that the noise of a vector is made of


def real_embeddings(lists: list[str], cache: Path) -> dict[str, np.ndarray]:
    """Embeddings by the built-in model, L2-normalised float32: `frames` `(F, D)`, one a second, and
    `captions` `(C, D)` of captioned videos, and `everyday` `(E, D)`, the sentences that an index
    without captions is tuned for."""
    if not cache.is_file():
        from reelseek.configs.command_line import load_model_config
        from reelseek.text import TextEncoder, Tokenizer, everyday_queries
        from reelseek.vision import (
            DecodePool,
            FrameEncoder,
            FrameSettings,
            IntervalSampler,
            load_model,
            start_decode_server,
        )

        start_decode_server()
        model = load_model(load_model_config("mini").spec())
        encoder = FrameEncoder(model, compiled=True)
        items = [item for name in lists for item in collect_videos(name)]
        tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
        sentences = list(dict.fromkeys(item.captions[0] for item in items if item.captions))
        text_encoder = TextEncoder(model.clip, tokenizer)
        captions = text_encoder.encode(sentences).numpy()
        everyday = text_encoder.encode(everyday_queries()).numpy()
        settings = FrameSettings(IntervalSampler(1.0, min_frames=8), encoder.preprocessing)
        with DecodePool(settings) as pool:
            videos = ((item, item.path) for item in items)
            frames = [v.embeddings for v in encode_videos(videos, encoder=encoder, pool=pool)]
        every_frame = np.concatenate([part.numpy() for part in frames])
        np.savez(cache, frames=every_frame, captions=captions, everyday=everyday)
    with np.load(cache) as loaded:
        return dict(loaded)


class Grower:
    """Grows vectors from `(F, D)` real ones."""

    def __init__(self, real: np.ndarray) -> None:
        self._real = real
        scores, ids = faiss.knn(real, real, 60, metric=faiss.METRIC_INNER_PRODUCT)
        distances = np.sqrt(np.maximum(2 - 2 * scores, 0))
        usable = (distances > _NEAR_COPY) & (ids != np.arange(len(real))[:, None])
        order = np.argsort(~usable, axis=1, kind="stable")[:, :_NEIGHBOURS]
        is_parent = np.take_along_axis(usable, order, axis=1).all(axis=1)
        self._parents = np.flatnonzero(is_parent)
        self._neighbours = np.take_along_axis(ids, order, axis=1)
        self._typical = float(np.median(np.take_along_axis(distances, order, axis=1)[is_parent]))

    def grow(self, count: int, *, seed: int) -> "Grown":
        return Grown(self, count, seed)

    def block(self, count: int, seed: tuple[int, int]) -> np.ndarray:
        """`(count, D)` float32."""
        random = np.random.default_rng(seed)
        parent = random.choice(self._parents, count)
        fraction = random.random((count, 1), dtype=np.float32)
        grown = self._real[parent] + fraction * self._movement(parent, random)
        noise = np.zeros_like(grown)
        for _ in range(_MOVEMENTS):
            size = random.standard_normal((count, 1), dtype=np.float32)
            noise += size * self._movement(random.choice(self._parents, count), random)
        grown += 0.5 / np.sqrt(_MOVEMENTS) * noise
        return grown / np.linalg.norm(grown, axis=1, keepdims=True)

    def videos(self, count: int, *, num_segments: int, seed: int, part: float = 1.0) -> np.ndarray:
        """`(count, num_segments, D)` float32: grown from real frames that follow each other, mostly
        of one clip, and moved by the same noise.

        Args:
            part: only from the first real frames, this fraction of them; below 0 from the last.
        """
        random = np.random.default_rng((seed, count))
        last = int(abs(part) * len(self._parents))
        parents = self._parents[:last] if part > 0 else self._parents[-last:]
        at = random.integers(len(parents), size=count)[:, None] + np.arange(num_segments)
        frames = parents[np.minimum(at, len(parents) - 1)]
        fraction = random.random((count, num_segments, 1), dtype=np.float32)
        grown = self._real[frames] + fraction * self._movement(frames, random)
        for _ in range(_MOVEMENTS):
            size = random.standard_normal((count, 1), dtype=np.float32)
            moved = size * self._movement(random.choice(self._parents, count), random)
            grown += 0.5 / np.sqrt(_MOVEMENTS) * moved[:, None]
        return grown / np.linalg.norm(grown, axis=2, keepdims=True)

    def _movement(self, frames: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """From each frame to one of its neighbours."""
        other = self._neighbours[frames, random.integers(0, _NEIGHBOURS, frames.shape)]
        return self._real[other] - self._real[frames]


class Grown:
    """`(count, D)` float32 vectors, made whenever they are asked for, the same each time: more of
    them than memory holds can be gone through."""

    def __init__(self, grower: Grower, count: int, seed: int) -> None:
        self._grower = grower
        self._count = count
        self._seed = seed
        self._made: tuple[int, np.ndarray] | None = None  # the latest block, and its first vector

    def __len__(self) -> int:
        return self._count

    def block(self, first: int, last: int) -> np.ndarray:
        """The vectors of these positions."""
        starts = range(first - first % _BLOCK, last, _BLOCK)
        return np.concatenate(
            [self._block(start)[max(0, first - start) : last - start] for start in starts]
        )

    def all(self) -> np.ndarray:
        return self.block(0, self._count)

    def _block(self, start: int) -> np.ndarray:
        if self._made is None or self._made[0] != start:
            size = min(_BLOCK, self._count - start)
            self._made = start, self._grower.block(size, (self._seed, start))
        return self._made[1]
