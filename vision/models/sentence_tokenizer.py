"""Tokenizes sentences for the text towers of sentence encoders."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


class SentenceTokenizer:
    """What open_clip's tokenizer of such a model gives, without transformers.

    Args:
        path: of `tokenizer.json`.
        context_length: tokens a sentence may have.
        padding: the token that pads.
    """

    def __init__(self, path: Path, *, context_length: int, padding: int) -> None:
        from tokenizers import Tokenizer

        self.context_length, self._padding = context_length, padding
        self._tokenizer = Tokenizer.from_file(str(path))

    def __call__(
        self, sentences: Sequence[str], context_length: int | None = None
    ) -> "torch.Tensor":
        """`(B, context_length)` int64, padded; longer sentences are cut."""
        import torch

        return torch.from_numpy(self.array(sentences, context_length))

    def array(self, sentences: Sequence[str], context_length: int | None = None) -> np.ndarray:
        """The same as an array, without PyTorch."""
        length = context_length or self.context_length
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=self._padding)
        encoded = self._tokenizer.encode_batch([_clean(sentence) for sentence in sentences])
        return np.array([each.ids for each in encoded], np.int64)


def _clean(sentence: str) -> str:
    """As open_clip does it: mended characters, no entities of HTML, single blanks."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(sentence))).split())
