"""Indices of pairs -> batches, the same for every run with the same seed.

What a pair is in an epoch depends on the seed, the epoch and its number, never on what was loaded
before it or by how many threads.
"""

import hashlib
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from reelseek.training.frame_cache import CachedVideo

if TYPE_CHECKING:
    from typing_extensions import Self


class Rows:
    """Base of the batches, dataclasses of tensors whose first dimension is that of the pairs."""

    def __len__(self) -> int:
        return len(self._tensors()[0])

    @property
    def ids(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of each pair's halves, `(B,)` int64 each; equal halves have equal numbers."""
        raise NotImplementedError

    def to(self, device: torch.device) -> "Self":
        return type(self)(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def chunks(self, size: int) -> "list[Self]":
        """Splits the batch into parts of `size` pairs; the last may be smaller."""
        parts = zip(*(tensor.split(size) for tensor in self._tensors()), strict=True)
        return [type(self)(*part) for part in parts]

    def _tensors(self) -> list[torch.Tensor]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Batch(Rows):
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


class BatchSource(Protocol):
    """What a run learns from."""

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Rows, None, None]:
        """Yields a batch for each list of `(epoch, pair)` indices, in their order.

        Args:
            indices: of each batch.
            num_workers: batches that are made ahead; 0 is 1.
        """
        ...

    def step_metrics(self) -> dict[str, float]:
        """Returns figures of the batches of the step just made. Called in all processes together,
        after each step."""
        ...

    def describe_broken(self, ids: Sequence[int]) -> str:
        """Returns the likely cause of a loss that is not finite.

        Args:
            ids: the first halves of the batch's pairs, as `Rows.ids` numbers them.
        """
        ...


class StoredPairs(Dataset):
    """Base of the sources whose pairs are at hand: threads make batches of them."""

    def __getitem__(self, index: tuple[int, int]) -> Any:
        """Returns a pair as it is in an epoch."""
        raise NotImplementedError

    def collate(self, pairs: Sequence[Any]) -> Rows:
        """Makes a batch."""
        raise NotImplementedError

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Rows, None, None]:
        """Yields the batches of these indices, in their order; threads read ahead.

        A batch is little more than copies of memory-mapped rows, so threads suffice; and processes
        crash that are forked beside the threads of an inference engine.
        """

        def make(part: list[tuple[int, int]]) -> Rows:
            return self.collate([self[index] for index in part])

        ahead = max(1, num_workers)
        # One core each: PyTorch's own threads would compete with those of the training step.
        with ThreadPoolExecutor(ahead, "batches", torch.set_num_threads, (1,)) as executor:
            coming: deque[Future[Rows]] = deque()
            for part in indices:
                coming.append(executor.submit(make, part))
                if len(coming) > ahead:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def step_metrics(self) -> dict[str, float]:
        return {}


class CaptionedPairs(StoredPairs):
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

    def collate(self, pairs: Sequence[tuple[torch.Tensor, torch.Tensor, int, int]]) -> Batch:
        return collate(pairs)

    def describe_broken(self, ids: Sequence[int]) -> str:
        """Names the videos whose frames are not finite, else all of the batch."""
        videos = [self.videos[number] for number in sorted(set(ids))]
        broken = [video for video in videos if not np.isfinite(video.frames).all()]
        return describe_videos([video.key for video in broken or videos], are_broken=bool(broken))


def collate(pairs: Sequence[tuple[torch.Tensor, torch.Tensor, int, int]]) -> Batch:
    frames, text, videos, captions = zip(*pairs, strict=True)
    return Batch(
        frames=torch.nn.utils.rnn.pad_sequence(list(frames), batch_first=True),
        num_frames=torch.tensor([len(part) for part in frames]),
        text=torch.stack(text),
        video_ids=torch.tensor(videos),
        caption_ids=torch.tensor(captions),
    )


def describe_videos(names: Sequence[str], *, are_broken: bool) -> str:
    """Returns the likely cause of a loss that is not finite, with the first few videos.

    Args:
        names: of the broken videos, or without any of all in the batch.
        are_broken: whether their frames are known to be not finite.
    """
    cause = "frames that are not finite" if are_broken else "lower optimizer.lr, or look at"
    return (
        f"{cause}: {len(names)} videos of the batch: "
        f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
    )


def step_seed(*numbers: int) -> int:
    """Returns one seed of 63 bits for several numbers."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
