"""Texts and pairs of texts -> batches of pairs, the same for every run with the same seed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reelseek.training.batches import Rows, StoredPairs, step_seed
from reelseek.training.text.files import Entries
from reelseek.training.text.hashtags import split_hashtags
from reelseek.training.text.lists import tagged_numbers
from reelseek.training.text.masking import Masking
from reelseek.training.text.tokens import TextTokens


@dataclass(frozen=True)
class TextBatch(Rows):
    """Pairs of texts.

    Attributes:
        first, second: `(B, L)` int64 tokens of each half.
        masked: `(B, L)` int64 tokens, of which some are to be guessed; L is 0 for none.
        targets: `(B, L)` int64, what they were; `IGNORED` elsewhere.
        seeds: `(B,)` int64 of each pair's dropout.
        first_ids, second_ids: `(B,)` int64; equal texts have equal numbers.
    """

    first: torch.Tensor
    second: torch.Tensor
    masked: torch.Tensor
    targets: torch.Tensor
    seeds: torch.Tensor
    first_ids: torch.Tensor
    second_ids: torch.Tensor

    @property
    def ids(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first_ids, self.second_ids


@dataclass(frozen=True)
class TextPair:
    """Two texts that belong together.

    Attributes:
        first, second: the halves; the same text where dropout makes the difference.
        guessed: of which some tokens are to be guessed.
        seed: of what is drawn for it in an epoch.
    """

    first: str
    second: str
    guessed: str
    seed: int


class TextPairs(StoredPairs):
    """Each text with itself (SimCSE, Gao et al. 2021, section 3), each text that has hashtags with
    one of them, drawn anew in each epoch, and the pairs of the user.

    Args:
        texts: entries of one text.
        pairs: entries of two.
        tokens: of the model.
        masking: None for no masked-language modelling.
        hashtags: whether hashtags make pairs.
        seed: of the run.
    """

    def __init__(
        self,
        texts: Entries,
        pairs: Entries,
        *,
        tokens: TextTokens,
        masking: Masking | None,
        hashtags: bool,
        seed: int,
    ) -> None:
        self._texts = texts
        self._pairs = pairs
        self._tokens = tokens
        self._masking = masking
        self._seed = seed
        self._tagged = tagged_numbers(texts) if hashtags else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._texts) + len(self._tagged) + len(self._pairs)

    def __getitem__(self, index: tuple[int, int]) -> TextPair:
        """Returns a pair as it is in an epoch."""
        epoch, number = index
        seed = step_seed(self._seed, epoch, number)
        if number < len(self._texts):
            (text,) = self._texts[number]
            return TextPair(text, text, text, seed)
        in_tagged = number - len(self._texts)
        if in_tagged < len(self._tagged):
            (title,) = self._texts[int(self._tagged[in_tagged])]
            text, tags = split_hashtags(title)
            return TextPair(text, tags[seed % len(tags)], title, seed)
        first, second = self._pairs[in_tagged - len(self._tagged)]
        return TextPair(first, second, (first, second)[seed % 2], seed)

    def collate(self, pairs: Sequence[TextPair]) -> TextBatch:
        masked = targets = torch.empty((len(pairs), 0), dtype=torch.int64)
        if self._masking is not None:
            masked, targets = self._masking(
                self._tokens([pair.guessed for pair in pairs]), [pair.seed for pair in pairs]
            )
        return TextBatch(
            first=self._tokens([pair.first for pair in pairs]),
            second=self._tokens([pair.second for pair in pairs]),
            masked=masked,
            targets=targets,
            seeds=torch.tensor([pair.seed for pair in pairs]),
            first_ids=torch.tensor([_text_id(pair.first) for pair in pairs]),
            second_ids=torch.tensor([_text_id(pair.second) for pair in pairs]),
        )

    def describe_broken(self, ids: Sequence[int]) -> str:
        """Texts cannot be broken, so the learning rate is too high."""
        return f"lower optimizer.lr, text_lr or trunk_lr; the batch has {len(ids)} pairs of texts"


def _text_id(text: str) -> int:
    """Returns 63 bits that stand for a text, whatever its case."""
    digest = hashlib.blake2b(text.casefold().encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
