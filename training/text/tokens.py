"""Sentences -> tokens as a model's text tower reads them, and what the tokenizer says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from reelseek.text import Tokenizer, strip_padding
from reelseek.vision import DualEncoder


class TextTokens:
    """Makes tokens; threads may share it.

    Args:
        model: whose tokenizer and text tower are meant.
        max_tokens: longer sentences are cut to it; 0 for the model's own length.
    """

    def __init__(self, model: DualEncoder, *, max_tokens: int = 0) -> None:
        length = min(max_tokens or model.context_length, model.context_length)
        self._clip = model.clip
        self._tokenize = Tokenizer(model.tokenize, context_length=length)
        # CLIP's own tower reads its whole context; one of transformers, what is no padding.
        self._missing = 0 if _is_transformers(model.clip) else model.context_length - length

    def __call__(self, sentences: Sequence[str]) -> torch.Tensor:
        """`(B, L)` int64."""
        return strip_padding(F.pad(self._tokenize(sentences), (0, self._missing)), self._clip)


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer of transformers.

    Attributes:
        size: number of tokens.
        mask_id: of the token that hides another.
        special_ids: of the tokens that stand for no word.
    """

    size: int
    mask_id: int
    special_ids: tuple[int, ...]


def transformers_tokenizer(model: DualEncoder) -> Any | None:
    """Returns the tokenizer of transformers behind a model's, if it and the tower are such."""
    tokenizer = getattr(model.tokenize, "tokenizer", None)
    is_fast = hasattr(tokenizer, "backend_tokenizer")
    return tokenizer if is_fast and _is_transformers(model.clip) else None


def read_vocabulary(model: DualEncoder) -> Vocabulary:
    """Returns what masked-language modelling needs.

    Raises:
        ValueError: the model's tokenizer has no mask token.
    """
    tokenizer = transformers_tokenizer(model)
    if tokenizer is None or tokenizer.mask_token_id is None:
        raise ValueError(
            f"model={model.spec.name}: its tokenizer has no mask token, which text.mlm_weight "
            "above 0 needs; set text.mlm_weight=0"
        )
    return Vocabulary(len(tokenizer), tokenizer.mask_token_id, tuple(tokenizer.all_special_ids))


def _is_transformers(clip: Any) -> bool:
    return hasattr(getattr(clip, "text", None), "pooler")
