"""Captions -> a network's inputs: tokens, or the features of a text trunk that does not train."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reelseek.indexing.progress import progress_bar
from reelseek.indexing.shutdown import StopRequest
from reelseek.text import masked_padding, strip_padding
from reelseek.training.row_store import NamedRows, PartWriter, RowStore
from reelseek.training.towers import trunk_fingerprint
from reelseek.vision import DualEncoder

_BATCH_SENTENCES = 256


class TextFeatures:
    """The features of sentences from the trunk of a text tower, cached for other runs. The key is
    the trunk's weights and the tokens, so models that share a trunk share the features.

    Args:
        model: its tokenizer.
        trunk: `(B, L)` tokens to `(B, F)` features; on its device.
        root: folder of all caches.
        device: of the trunk.
    """

    def __init__(
        self, model: DualEncoder, trunk: nn.Module, root: Path, *, device: torch.device
    ) -> None:
        self._model = model
        self._trunk = trunk
        self._device = device
        description = {"text_trunk": trunk_fingerprint(trunk), "device": device.type}
        self._store = RowStore(root, description, list_name="texts.jsonl")

    def fill(
        self, sentences: Sequence[str], *, stop: StopRequest, max_tokens: int = 0, show: bool = True
    ) -> None:
        """Computes the features that the cache lacks, until `stop`.

        Raises:
            ValueError: the cache's folder cannot be written.
        """
        tokens = tokenize(sentences, self._model, max_tokens)
        with self._store.locked():
            names = _names(tokens, self._model.clip)
            missing = {name: n for n, name in enumerate(names) if name not in self._store}
            numbers = torch.tensor(list(missing.values()), dtype=torch.int64)
            writer = PartWriter(self._store)
            progress = progress_bar(
                total=len(numbers), desc="reading captions", unit="caption", disable=not show
            )
            with progress:
                for indices, features in compute_features(
                    tokens[numbers], self._trunk, self._model.clip, device=self._device
                ):
                    rows = features.numpy()
                    for index, row in zip(indices.tolist(), rows, strict=True):
                        writer.add(NamedRows(names[numbers[index]], row[None]))
                    progress.update(len(indices))
                    if stop:
                        break
            writer.flush()

    def __call__(self, sentences: Sequence[str], *, max_tokens: int = 0) -> torch.Tensor:
        """`(N, F)` float32, of sentences that `fill` has seen with the same `max_tokens`.

        Raises:
            ValueError: the cache is damaged.
        """
        self._store.read()
        names = _names(tokenize(sentences, self._model, max_tokens), self._model.clip)
        return torch.from_numpy(np.concatenate([self._store.rows(name) for name in names]))


def compute_features(
    tokens: torch.Tensor, trunk: nn.Module, clip: Any, *, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields indices into `tokens`, and the trunk's features, `(n, F)` float32 on the CPU."""
    # Of about equal length together: less padding.
    order = (tokens != _padding(clip)).sum(dim=1).argsort()
    for indices in order.split(_BATCH_SENTENCES) if len(order) else ():
        with torch.inference_mode():
            output = trunk(strip_padding(tokens[indices], clip).to(device))
            output = output[0] if isinstance(output, tuple) else output
            features = output.float().cpu()
        yield indices, features.clone()


def tokenize(sentences: Sequence[str], model: DualEncoder, max_tokens: int = 0) -> torch.Tensor:
    """`(N, L)` int64; longer sentences are cut to `max_tokens`, 0 for the model's length."""
    length = min(max_tokens or model.context_length, model.context_length)
    parts = [
        model.tokenize(list(sentences[first : first + _BATCH_SENTENCES]), context_length=length)
        for first in range(0, len(sentences), _BATCH_SENTENCES)
    ]
    # Only some towers read less than their whole context.
    padded = torch.nn.functional.pad(
        torch.cat(parts), (0, model.context_length - length), value=_padding(model.clip)
    )
    return strip_padding(padded, model.clip)


def _names(tokens: torch.Tensor, clip: Any) -> list[str]:
    """Returns a name for each row of tokens, whatever its padding."""
    lengths = 1 + (tokens != _padding(clip)).int().cumsum(dim=1).argmax(dim=1)
    return [
        hashlib.sha256(row[:length].tobytes()).hexdigest()[:32]
        for row, length in zip(tokens.numpy(), lengths.tolist(), strict=True)
    ]


def _padding(clip: Any) -> int:
    return masked_padding(clip) or 0  # open_clip's own towers are padded with 0
