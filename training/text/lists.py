"""The options of a run -> its texts and pairs; without PyTorch, so that mistakes show at once."""

import functools
from dataclasses import dataclass

import numpy as np

from reelseek.configs.train_schema import TrainConfig
from reelseek.training.text.files import Entries, read_entries
from reelseek.training.text.hashtags import split_hashtags


@dataclass(frozen=True)
class TextLists:
    """The texts and the pairs to train on and to evaluate with; each may be empty."""

    train: Entries
    pairs: Entries
    val: Entries
    val_pairs: Entries

    @property
    def has_held_out(self) -> bool:
        return len(self.val) + len(self.val_pairs) > 0

    def num_pairs(self, *, hashtags: bool) -> int:
        """Returns how many pairs an epoch has, with those of hashtags if they count."""
        tagged = len(tagged_numbers(self.train)) if hashtags else 0
        return len(self.train) + tagged + len(self.pairs)


def read_text_lists(config: TrainConfig) -> TextLists:
    """Reads what the options name.

    Raises:
        ValueError: see `read_entries`; or too few pairs to fill a batch.
    """
    data = config.data
    read = functools.partial(read_entries, max_failed_fraction=data.max_failed_fraction)
    train = [] if config.eval_only else data.train
    pairs = [] if config.eval_only else config.pairs
    lists = TextLists(
        train=read("data.train", train, are_pairs=False),
        pairs=read("pairs", pairs, are_pairs=True),
        val=read("data.val", data.val, are_pairs=False),
        val_pairs=read("val_pairs", config.val_pairs, are_pairs=True),
    )
    if not config.eval_only:
        _require_batches(config, lists)
    return lists


def tagged_numbers(texts: Entries) -> np.ndarray:
    """Returns the numbers of the texts that have hashtags and other words, int64."""
    numbers = (n for n in range(len(texts)) if all(split_hashtags(texts[n][0])))
    return np.fromiter(numbers, np.int64)


def _require_batches(config: TrainConfig, lists: TextLists) -> None:
    loop = config.loop
    num_pairs = lists.num_pairs(hashtags=config.text.hashtags)
    if num_pairs < loop.batch_size:
        raise ValueError(
            f"loop.batch_size={loop.batch_size}: data.train and pairs have only {num_pairs} pairs "
            "of texts in an epoch; make it smaller"
        )
    if num_pairs // loop.batch_size < loop.accumulate_steps:
        raise ValueError(
            f"loop.accumulate_steps={loop.accumulate_steps}: an epoch has only "
            f"{num_pairs // loop.batch_size} batches; make it smaller, or loop.batch_size"
        )
