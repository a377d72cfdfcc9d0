"""Tokens -> tokens of which some are hidden, and what they were (BERT, Devlin et al. 2019)."""

from collections.abc import Sequence

import numpy as np
import torch

from reelseek.training.text.tokens import Vocabulary

IGNORED = -100  # PyTorch's own mark of a target that counts for nothing


class Masking:
    """Hides tokens of each row: of those chosen, 80 % become the mask, 10 % another token, and
    10 % stay (section 3.1, "Task #1").

    Args:
        vocabulary: of the model.
        fraction: of a row's tokens, special ones aside, to choose; at least one.
    """

    def __init__(self, vocabulary: Vocabulary, fraction: float) -> None:
        self._vocabulary = vocabulary
        self._fraction = fraction

    def __call__(
        self, tokens: torch.Tensor, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what the tower reads and the targets, `(B, L)` int64 each.

        Args:
            tokens: `(B, L)` int64.
            seeds: of each row; the choice depends on nothing else.
        """
        masked, targets = tokens.clone(), torch.full_like(tokens, IGNORED)
        is_word = torch.isin(tokens, torch.tensor(self._vocabulary.special_ids), invert=True)
        for row, seed in enumerate(seeds):
            places = is_word[row].nonzero()[:, 0].numpy()
            if not len(places):
                continue
            random = np.random.default_rng(seed)
            count = max(1, round(self._fraction * len(places)))
            chosen = random.choice(places, count, replace=False)
            fate = random.random(count)
            others = random.integers(0, self._vocabulary.size, count)
            targets[row, chosen] = tokens[row, chosen]
            masked[row, chosen[fate < 0.8]] = self._vocabulary.mask_id
            is_other = (fate >= 0.8) & (fate < 0.9)
            masked[row, chosen[is_other]] = torch.from_numpy(others[is_other])
        return masked, targets
