"""The samples of shards -> batches, decoded ahead by worker processes beside the training loop.

A slot whose sample is broken takes another sample, which is a function of the seed and the slot
alone: so a batch is always full, all processes stay in step, and a run that continues sees the
same batches.
"""

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from reelseek.training.batches import Batch, collate, describe_videos, step_seed
from reelseek.training.shards.collection import ShardCollection
from reelseek.training.shards.order import ShardOrder
from reelseek.training.shards.pool import SamplePool
from reelseek.training.shards.skipped import Failure, SkippedSamples
from reelseek.training.shards.worker import (
    BrokenSample,
    LoadedSample,
    SampleRequest,
    SampleSettings,
)
from reelseek.vision import WorkerLimits

_MAX_ATTEMPTS = 50
_POLL_SECONDS = 0.5

Item = tuple[Batch, list[Failure]]


@dataclass(frozen=True)
class LoadPlan:
    """How samples are loaded; what comes of it depends on `settings` and `seed` alone.

    Attributes:
        settings: of the samples.
        num_workers: processes that decode, for this process of the run.
        limits: of each of them.
        seed: of frames, crops and captions.
    """

    settings: SampleSettings
    num_workers: int
    limits: WorkerLimits
    seed: int


class ShardPairs:
    """A picture or video and one of its captions for each slot of an epoch.

    Args:
        collection: of the samples.
        order: of the samples.
        plan: how they are loaded.
        skipped: counts and names broken samples.
        tokenize: `B` captions to `(B, L)` int64.
    """

    def __init__(
        self,
        collection: ShardCollection,
        order: ShardOrder,
        plan: LoadPlan,
        *,
        skipped: SkippedSamples,
        tokenize: Callable[[Sequence[str]], torch.Tensor],
    ) -> None:
        self._collection = collection
        self._order = order
        self._plan = plan
        self._tokenize = tokenize
        self._skipped = skipped
        self._failed_since_step: list[Failure] = []
        self._loaded_since_step = 0

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Batch, None, None]:
        """Yields the batches of these `(epoch, slot)` pairs, in their order.

        Args:
            indices: of each batch.
            num_workers: batches that are decoded ahead; 0 is 1. One more waits, ready.

        Raises:
            ValueError: none of many samples can be loaded.
        """
        items: queue.Queue[Item | Exception | None] = queue.Queue(maxsize=1)
        closed = threading.Event()
        reader = threading.Thread(
            target=self._read,
            args=(indices, items, closed, max(1, num_workers)),
            name="shards",
            daemon=True,
        )
        reader.start()
        try:
            while (item := items.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                batch, failed = item
                self._failed_since_step += failed
                self._loaded_since_step += len(batch)
                yield batch
        finally:
            closed.set()
            reader.join()

    def step_metrics(self) -> dict[str, float]:
        """Returns how many samples of the step were broken, in all processes.

        Raises:
            ValueError: too many samples were broken since this run was started.
        """
        failed, num_loaded = self._failed_since_step, self._loaded_since_step
        self._failed_since_step, self._loaded_since_step = [], 0
        return {"data/num_skipped": self._skipped.count(failed, num_loaded=num_loaded)}

    def describe_broken(self, ids: Sequence[int]) -> str:
        """Names the batch's samples; their frames are pixels, which are always finite."""
        names = [str(self._collection.sample(number)) for number in sorted(set(ids))]
        return describe_videos(names, are_broken=False)

    def _read(
        self,
        indices: Iterator[list[tuple[int, int]]],
        items: "queue.Queue[Item | Exception | None]",
        closed: threading.Event,
        ahead: int,
    ) -> None:
        """Loads batches into the queue, in order; ends with None or the error."""
        end: Exception | None = None
        try:
            plan = self._plan
            with SamplePool[tuple[int, int]](
                plan.settings, num_workers=plan.num_workers, limits=plan.limits
            ) as pool:
                for item in self._batches(indices, pool, closed, ahead):
                    _put(items, item, closed)
        except Exception as error:
            end = error
        _put(items, end, closed)

    def _batches(
        self,
        indices: Iterator[list[tuple[int, int]]],
        pool: SamplePool[tuple[int, int]],
        closed: threading.Event,
        ahead: int,
    ) -> Iterator[Item]:
        coming: deque[_Coming] = deque()
        by_slot: dict[tuple[int, int], _Coming] = {}
        while not closed.is_set():
            while len(coming) < ahead and (slots := next(indices, None)) is not None:
                coming.append(_Coming(slots))
                for slot in slots:
                    by_slot[slot] = coming[-1]
                    self._submit(slot, 0, pool)
            if not coming:
                return
            for slot, sample in pool.receive():
                if isinstance(sample, BrokenSample):
                    attempt = by_slot[slot].fail(slot, self._name(slot, by_slot[slot]), sample)
                    self._submit(slot, attempt, pool)
                else:
                    by_slot.pop(slot).loaded[slot] = sample
            while coming and coming[0].is_complete:
                yield self._make_batch(coming.popleft())

    def _submit(self, slot: tuple[int, int], attempt: int, pool: SamplePool) -> None:
        number = self._order.sample(*slot, attempt=attempt)
        seed = step_seed(self._plan.seed, *slot, attempt)
        pool.submit(slot, SampleRequest(self._collection.sample(number), seed))

    def _name(self, slot: tuple[int, int], coming: "_Coming") -> str:
        attempt = coming.attempts.get(slot, 0)
        return str(self._collection.sample(self._order.sample(*slot, attempt=attempt)))

    def _make_batch(self, coming: "_Coming") -> Item:
        samples = [coming.loaded[slot] for slot in coming.slots]
        tokens = self._tokenize([sample.caption for sample in samples])
        numbers = [
            self._order.sample(*slot, attempt=coming.attempts.get(slot, 0)) for slot in coming.slots
        ]
        pairs = [
            (sample.frames, text, number, _caption_id(sample.caption))
            for sample, text, number in zip(samples, tokens, numbers, strict=True)
        ]
        return collate(pairs), sorted(coming.failed)


@dataclass
class _Coming:
    """A batch in progress."""

    slots: list[tuple[int, int]]
    loaded: dict[tuple[int, int], LoadedSample] = field(default_factory=dict)
    attempts: dict[tuple[int, int], int] = field(default_factory=dict)
    failed: list[Failure] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.loaded) == len(self.slots)

    def fail(self, slot: tuple[int, int], name: str, sample: BrokenSample) -> int:
        """Notes a broken sample; returns the next attempt.

        Raises:
            ValueError: there were too many.
        """
        self.failed.append((name, sample.reason))
        attempt = self.attempts[slot] = self.attempts.get(slot, 0) + 1
        if attempt > _MAX_ATTEMPTS:
            raise ValueError(
                f"{attempt} samples in a row cannot be loaded; the last: {name}: {sample.reason}"
            )
        return attempt


def _put(items: queue.Queue, item: object, closed: threading.Event) -> None:
    """Puts an item into the queue, unless nobody will take it."""
    while not closed.is_set():
        try:
            return items.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue


def _caption_id(caption: str) -> int:
    """Returns a number of 63 bits that equal sentences share, in all processes."""
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], "little") >> 1
