"""Words -> the mean of the embeddings of their tokens in a text model, without running the model.

These are the rows of its table of tokens, which say what words resemble each other. Running the
model would take 20 ms a word and core, and a log has 10^5 words.
"""

from collections.abc import Sequence

import numpy as np

_DIM = 256  # principal directions that are kept
_MAX_FITTED = 8_192  # words that the directions are found on
_BATCH = 4_096


class WordEmbeddings:
    """Args: model: as `model=NAME` means it on a command line.

    Raises:
        ValueError: the model cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        from torch import nn

        from reelseek.vision.models.loading import load_model
        from reelseek.vision.models.spec import ModelSpec

        loaded = load_model(ModelSpec(model))
        tower = getattr(loaded.clip, "text", loaded.clip)
        tables = [each for each in tower.modules() if isinstance(each, nn.Embedding)]
        if not tables:
            raise ValueError(f"text_model={model}: has no table of tokens; name another, or null")
        # The table of tokens is the largest; others are of positions.
        largest = max(tables, key=lambda each: each.num_embeddings)
        self._table = largest.weight.detach().float().numpy()
        self._tokenize = loaded.tokenize
        self._special = np.unique(np.asarray(self._tokenize([""])))

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """Returns `(n, at most 256)` float32, with the mean 0 and the standard deviation 1."""
        means = np.concatenate(
            [self._means(words[first : first + _BATCH]) for first in range(0, len(words), _BATCH)]
        )
        means -= means.mean(axis=0)
        fitted = means[:: max(1, len(means) // _MAX_FITTED)]
        _, _, directions = np.linalg.svd(fitted, full_matrices=False)
        projected = means @ directions[:_DIM].T
        return (projected / max(float(projected.std()), 1e-12)).astype(np.float32)

    def _means(self, words: Sequence[str]) -> np.ndarray:
        tokens = np.asarray(self._tokenize(list(words)))
        counted = ~np.isin(tokens, self._special)
        rows = np.zeros((len(words), self._table.shape[1]), np.float32)
        for row, (own, is_own) in enumerate(zip(tokens, counted, strict=True)):
            if is_own.any():
                rows[row] = self._table[own[is_own]].mean(axis=0)
        return rows
