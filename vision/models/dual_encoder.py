"""A dual encoder: its two towers, its preprocessing, and the fingerprint an index stores."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from reelseek.vision.models.pooling import MeanPooling, Pooling
from reelseek.vision.models.preprocessing import Preprocessing
from reelseek.vision.models.spec import ModelSpec

# Tokenizers that agree on this sentence count as the same in a fingerprint.
_TOKENIZER_PROBE = (
    "A dog's 2 red kites, cafe\u0301 \u732b \u041a\u043e\u0442 \u0642\u0637 \U0001f408!"
)


@dataclass(frozen=True)
class DualEncoder:
    """A loaded model.

    Attributes:
        clip: The open_clip model, in float32 on the CPU, in evaluation mode.
        tokenize: Maps `(list of B sentences, context_length=n)` to `(B, n)` int64 tokens.
        context_length: Maximum tokens of a sentence, start and end tokens included.
        embedding_dim: D.
        pooling: Maps frame embeddings to a video embedding; in evaluation mode.
        fingerprint: Hex digest of the weights, the preprocessing and the tokenizer.
    """

    spec: ModelSpec
    clip: Any  # a CLIP or CustomTextCLIP; to mypy, a module's submodules might be tensors
    tokenize: Callable[..., torch.Tensor]
    context_length: int
    embedding_dim: int
    preprocessing: Preprocessing
    fingerprint: str = ""
    pooling: Pooling = field(default_factory=MeanPooling)


def model_fingerprint(
    clip: torch.nn.Module,
    preprocessing: Preprocessing,
    tokenizer: Callable[..., torch.Tensor],
    pooling: Pooling,
) -> str:
    """Returns 16 bytes of SHA-256, hex, over the weights, the preprocessing and the tokenizer."""
    digest = hashlib.sha256()
    if not isinstance(pooling, MeanPooling):
        digest.update(json.dumps(pooling.options(), sort_keys=True).encode())
    for module in (clip, pooling):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    digest.update(json.dumps(preprocessing.as_dict(), sort_keys=True).encode())
    digest.update(str(tokenizer([_TOKENIZER_PROBE]).tolist()).encode())
    return digest.hexdigest()[:32]
