"""A network and a captioned collection -> retrieval metrics, during training."""

from typing import Any, Protocol

import numpy as np
import torch

from reelseek.ranking.metrics import retrieval_metrics
from reelseek.training.batches import collate
from reelseek.training.data import CaptionedCollection
from reelseek.training.network import Network

_BATCH_FRAMES = 512


class Measure(Protocol):
    """A validation set that measures a network."""

    def measure(self, network: Any) -> dict[str, Any]:
        """Returns metrics as `as_record` takes them."""


class Validation:
    """A validation set, ready for a network.

    Args:
        collection: its videos and captions.
        texts: `(num_captions, ...)`, tokens or features, in the order of the captions.
        device: of the network.
    """

    def __init__(
        self, collection: CaptionedCollection, texts: torch.Tensor, *, device: torch.device
    ) -> None:
        self._videos = collection.videos
        self._texts = texts
        self._device = device
        self._caption_video = np.repeat(
            np.arange(len(collection.videos)), [len(own) for own in collection.captions]
        )

    @torch.inference_mode()
    def measure(self, network: Network) -> dict[str, Any]:
        """Returns the metrics of `retrieval_metrics`."""
        videos = [self._embed(network, part) for part in self._batches()]
        texts = [
            network.embed_texts(part.to(self._device)).cpu() for part in self._texts.split(256)
        ]
        similarity = torch.cat(texts) @ torch.cat(videos).T
        return retrieval_metrics(similarity.numpy(), self._caption_video)

    def _batches(self) -> list[list[int]]:
        longest = max(len(video.frames) for video in self._videos)
        size = max(1, _BATCH_FRAMES // longest)
        numbers = list(range(len(self._videos)))
        return [numbers[first : first + size] for first in range(0, len(numbers), size)]

    def _embed(self, network: Network, numbers: list[int]) -> torch.Tensor:
        no_text = torch.empty(0)
        frames = [self._videos[number].frames for number in numbers]
        batch = collate(
            [
                (
                    torch.from_numpy(np.array(f if f.dtype == np.uint8 else f.astype(np.float32))),
                    no_text,
                    0,
                    0,
                )
                for f in frames
            ]
        )
        return network.embed_videos(
            batch.frames.to(self._device), batch.num_frames.to(self._device)
        ).cpu()


def as_record(metrics: dict[str, Any], *, step: int) -> dict[str, float]:
    """Returns the metrics, of which each group is a dictionary and `score` may be a number, as a
    record of the history, with names that TensorBoard groups."""
    record: dict[str, float] = {"step": step}
    for group, values in metrics.items():
        if isinstance(values, dict):
            record |= {f"val/{group}/{name}": value for name, value in values.items()}
    if "score" in metrics:
        record["val/score"] = metrics["score"]
    return record
