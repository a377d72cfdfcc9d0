"""A log-bilinear model of the next word, in NumPy.

The words before add up to a vector, each through a matrix of its place; a word's score is the inner
product with its own vector (Mnih and Hinton 2007, section 4), here with one hidden layer beside.
Only the words with the letters typed are scored, so that this takes a tenth of a millisecond.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

# Words -> `(n, E)` float32, of any scale: what words resemble each other.
Embed: TypeAlias = Callable[[Sequence[str]], np.ndarray]

PLACES = 3  # the word before, the one before that, and the mean of those earlier
_GELU = np.float32(np.sqrt(2 / np.pi))


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Trained by `word_vector_training`.

    Attributes:
        ids: `(W,)` int32, ascending; the words that have vectors.
        inputs: `(W + 1, D)` float32, of the words before; the last stands for any other word.
        places: `(PLACES, D, D)` float32.
        hidden_1, bias_1, hidden_2, bias_2: `(D, D)` and `(D,)` float32, of the hidden layer.
        outputs: `(W, D)` float32, of the words to come.
        bias: `(W,)` float32.
    """

    ids: np.ndarray
    inputs: np.ndarray
    places: np.ndarray
    hidden_1: np.ndarray
    bias_1: np.ndarray
    hidden_2: np.ndarray
    bias_2: np.ndarray
    outputs: np.ndarray
    bias: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        return {f"vectors.{each.name}": getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], *, size: int) -> "WordVectors":
        """Checks what `tensors` made.

        Args:
            size: all ids are below it.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays do not fit together.
        """
        vectors = cls(**{each.name: tensors[f"vectors.{each.name}"] for each in fields(cls)})
        num, dim = vectors.outputs.shape
        shapes = {
            "ids": (num,), "inputs": (num + 1, dim), "places": (PLACES, dim, dim),
            "hidden_1": (dim, dim), "bias_1": (dim,), "hidden_2": (dim, dim), "bias_2": (dim,),
            "bias": (num,),
        }  # fmt: skip
        ids = vectors.ids
        if any(getattr(vectors, name).shape != shape for name, shape in shapes.items()) or (
            num and not 0 <= ids[0] <= ids[-1] < size
        ):
            raise ValueError("its vectors are damaged")
        return vectors

    def places_of(self, ids: Sequence[int]) -> np.ndarray:
        """Word ids -> places in the tables; that of "any other" for those without vectors."""
        num = len(self.ids)
        wanted = np.asarray(ids, dtype=np.int64)
        if not num:
            return np.zeros(len(wanted), np.int64)
        found = np.minimum(self.ids.searchsorted(wanted), num - 1)
        return np.where(self.ids[found] == wanted, found, num)

    def context(self, before: Sequence[int]) -> np.ndarray:
        """Returns `(D,)` for the ids of the words before, at least one."""
        inputs = self.inputs[self.places_of(before)]
        summed = inputs[-1] @ self.places[0]
        if len(inputs) > 1:
            summed = summed + inputs[-2] @ self.places[1]
        if len(inputs) > 2:
            summed = summed + inputs[:-2].mean(axis=0) @ self.places[2]
        hidden = summed @ self.hidden_1 + self.bias_1
        hidden = 0.5 * hidden * (1 + np.tanh(_GELU * (hidden + 0.044715 * hidden**3)))
        return summed + hidden @ self.hidden_2 + self.bias_2

    def probabilities(
        self, before: Sequence[int], first: int, last: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids from `first` to below `last` that have vectors, and their probabilities,
        given that it is one of them."""
        start, end = self.ids.searchsorted((first, last))
        if start == end:
            return self.ids[:0], np.empty(0, np.float32)
        scores = self.outputs[start:end] @ self.context(before) + self.bias[start:end]
        shares = np.exp(scores - scores.max())
        return self.ids[start:end], shares / shares.sum()
