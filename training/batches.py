"""Cached videos and captions -> batches of pairs, the same for every run with the same seed.

The contents of a batch depend on the seed, the epoch and the batch's index in it, never on the
batches before: a run that was stopped inside an epoch continues with exactly the batches that it
would have seen, with any number of loading threads, and several processes share one global batch.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from reelseek.training.frame_cache import CachedVideo


@dataclass(frozen=True)
class Batch:
    """Pairs of a video and a caption.

    Attributes:
        frames: `(B, T, F)` float32 features, or `(B, T, 3, H, W)` uint8, padded with zeros.
        num_frames: `(B,)` int64, how many of the T are frames.
        text: `(B, L)` int64 tokens, or `(B, F)` float32 features.
        video_ids: `(B,)` int64.
        caption_ids: `(B,)` int64; equal sentences have equal numbers.
    """

    frames: torch.Tensor
    num_frames: torch.Tensor
    text: torch.Tensor
    video_ids: torch.Tensor
    caption_ids: torch.Tensor

    @property
    def ids(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.video_ids, self.caption_ids

    def __len__(self) -> int:
        return len(self.video_ids)

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def chunks(self, size: int) -> "list[Batch]":
        """Splits the batch into parts of `size` pairs; the last may be smaller."""
        parts = zip(*(tensor.split(size) for tensor in self._tensors()), strict=True)
        return [Batch(*part) for part in parts]

    def _tensors(self) -> list[torch.Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


class PairSource(Protocol):
    """Pairs of videos and captions that batches are made of."""

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Batch, None, None]:
        """Yields the batches of these indices, in their order, reading ahead."""
        ...

    def step_metrics(self) -> dict[str, float]:
        """Returns figures of the batches of the step just made. Called in all processes together,
        after each step."""
        ...

    def suspects(self, video_ids: Iterable[int]) -> tuple[list[str], bool]:
        """Returns the names of those videos whose frames are not finite, and True; without any,
        all names, and False."""
        ...


class CaptionedPairs(Dataset):
    """Every caption of every video, as pairs.

    Args:
        videos: as they are cached.
        captions: the sentences of each video.
        sources: where each video comes from.
        text: `(num_sentences, ...)`, tokens or features of each different sentence.
        sentence_ids: number of each sentence, the row of `text`.
        frames_per_video: samples so many frames of a video, in order; 0 for all.
        flip: mirrors half of the videos; for pixels only.
        seed: of the sampling and the mirroring.
    """

    def __init__(
        self,
        videos: Sequence[CachedVideo],
        captions: Sequence[Sequence[str]],
        sources: Sequence[str] | None = None,
        *,
        text: torch.Tensor,
        sentence_ids: dict[str, int],
        frames_per_video: int = 0,
        flip: bool = False,
        seed: int = 0,
    ) -> None:
        self.videos = list(videos)
        self.pairs = [
            (video, sentence_ids[caption]) for video, own in enumerate(captions) for caption in own
        ]
        self.sources = ["" if sources is None else sources[video] for video, _ in self.pairs]
        self._text = text
        self._frames_per_video = frames_per_video
        self._flip = flip
        self._seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """Returns a pair as it is in an epoch: frames, text, video and caption numbers."""
        epoch, number = index
        video, caption = self.pairs[number]
        frames = self.videos[video].frames
        random = np.random.default_rng([self._seed, epoch, number])
        if 0 < self._frames_per_video < len(frames):
            chosen = random.choice(len(frames), self._frames_per_video, replace=False)
            frames = frames[np.sort(chosen)]
        if frames.dtype == np.float16:
            frames = frames.astype(np.float32)
        elif self._flip and random.random() < 0.5:
            frames = frames[..., ::-1]
        return torch.from_numpy(np.array(frames)), self._text[caption], video, caption

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Batch, None, None]:
        return load_batches(self, indices, num_workers=num_workers)

    def step_metrics(self) -> dict[str, float]:
        return {}

    def suspects(self, video_ids: Iterable[int]) -> tuple[list[str], bool]:
        videos = [self.videos[number] for number in sorted(set(video_ids))]
        broken = [video for video in videos if not np.isfinite(video.frames).all()]
        return [video.key for video in broken or videos], bool(broken)


def collate(pairs: Sequence[tuple[torch.Tensor, torch.Tensor, int, int]]) -> Batch:
    frames, text, videos, captions = zip(*pairs, strict=True)
    return Batch(
        frames=torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True),
        num_frames=torch.tensor([len(part) for part in frames]),
        text=torch.stack(text),
        video_ids=torch.tensor(videos),
        caption_ids=torch.tensor(captions),
    )


class BatchOrder(Protocol):
    """The batches of each epoch as pairs of indices, the same in each run with the same seed."""

    def __len__(self) -> int: ...

    def of_epoch(self, epoch: int, *, first: int = 0) -> Iterator[list[tuple[int, int]]]: ...


class EpochBatches:
    """The order of the pairs in each epoch, cut into batches.

    Pairs that do not fill the last batch are left out; another epoch's order has them.

    Args:
        num_pairs: of the dataset.
        weights: `(num_pairs,)` how often each pair is seen in an epoch, on average; default: once.
        batch_size: pairs of the global batch, over all processes.
        seed: of the order.
        rank, world_size: each process takes an equal, consecutive part of each global batch.

    Raises:
        ValueError: too few pairs to fill a batch, or a batch that the processes do not divide.
    """

    def __init__(
        self,
        num_pairs: int,
        *,
        batch_size: int,
        seed: int,
        weights: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: must be a multiple of the {world_size} processes"
            )
        self._weights = np.ones(num_pairs) if weights is None else weights
        self._num_seen = int(self._weights.sum() + 1e-6)
        if self._num_seen < batch_size:
            raise ValueError(
                f"loop.batch_size={batch_size}: there are only {self._num_seen} pairs of a "
                "video and a caption in an epoch; make it smaller"
            )
        self._batch_size = batch_size
        self._seed = seed
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __len__(self) -> int:
        """Returns the number of batches an epoch."""
        return self._num_seen // self._batch_size

    def of_epoch(self, epoch: int, *, first: int = 0) -> Iterator[list[tuple[int, int]]]:
        """Yields this process's `(epoch, pair)` indices for each batch, from batch `first` on."""
        order = self._order(np.random.default_rng([self._seed, epoch])).tolist()
        for batch in range(first, len(self)):
            start = batch * self._batch_size
            whole = order[start : start + self._batch_size]
            yield [(epoch, number) for number in whole[self._part]]

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """Returns the epoch's pairs, each as often as its weight, rounded up or down by systematic
        resampling (Kitagawa 1996, appendix): so all epochs have the same number of pairs."""
        shuffled = random.permutation(len(self._weights))
        # Each pair covers an interval as long as its weight; it appears once for each whole number
        # within the interval.
        ends = np.floor(self._weights[shuffled].cumsum() + 1e-6).astype(int)
        counts = np.diff(ends, prepend=0)
        return random.permutation(np.repeat(shuffled, counts))


def load_batches(
    dataset: CaptionedPairs, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
) -> Generator[Batch, None, None]:
    """Yields the batches of these indices, in their order; threads read ahead.

    A batch is little more than copies of memory-mapped rows, so threads suffice; and processes
    crash that are forked beside the threads of an inference engine.
    """
    ahead = max(1, num_workers)
    # One core each: PyTorch's own threads would compete with those of the training step.
    with ThreadPoolExecutor(ahead, "batches", torch.set_num_threads, (1,)) as executor:
        coming: deque[Future[Batch]] = deque()
        for part in indices:
            coming.append(executor.submit(lambda part: collate([dataset[p] for p in part]), part))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def step_seed(*numbers: int) -> int:
    """Returns one seed of 63 bits for several numbers."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
