"""Tokenizes sentences, and finds out whether the model reads all of a sentence."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

# A tensor of PyTorch or an array of NumPy, `(B, n)` int64: whatever the model's tokenizer makes.
Tokens: TypeAlias = Any

# transformers' tokenizers store padding and length as state, so threads must take turns. A query
# takes 0.1 ms, so one lock serves all tokenizers.
_lock = threading.Lock()


class Tokenizer:
    """A model's tokenizer with its context length. Threads may share it.

    Args:
        tokenize: open_clip's tokenizer, or one like it: `(list of B sentences, context_length=n)`
            to `(B, n)` int64.
        context_length: Maximum tokens of a sentence, start and end tokens included.
    """

    def __init__(self, tokenize: Callable[..., Tokens], *, context_length: int) -> None:
        self._tokenize = tokenize
        self.context_length = context_length

    def __call__(self, sentences: Sequence[str]) -> Tokens:
        """Returns `(B, context_length)` int64, padded; longer sentences are cut."""
        return self._tokens(sentences, self.context_length)

    def is_cut(self, sentence: str) -> bool:
        """Whether the sentence has more tokens than the model reads."""
        # With more room, the token just past the context is padding unless the model cuts it.
        room = self.context_length + 2
        empty, filled = self._tokens(["", sentence], room)
        return bool(filled[self.context_length] != empty[self.context_length])

    def _tokens(self, sentences: Sequence[str], length: int) -> Tokens:
        with _lock:
            return self._tokenize(list(sentences), context_length=length)
