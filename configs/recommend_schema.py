"""The types of the configurations of `recommendation/`; see `configs.schema` for how they are
kept."""

from dataclasses import dataclass
from math import inf

from reelseek.configs.options import Options, Range, option, path_option


@dataclass
class EvaluateConfig(Options, command="evaluate_recommenders"):
    sequences: str | None = path_option(
        "lines 'user item item ...' in order of time; each user's last item is the question", None
    )
    more_sequences: str | None = path_option(
        "lines of other users, trained on whole; users of `sequences` then only have a history",
        None,
    )
    titles: str | None = path_option("a CSV with the header item,title", None)
    train: str | None = path_option(
        "pairs to learn from, without order: lines 'user item item ...', or .npz", None
    )
    valid: str | None = path_option("pairs that settings are chosen by, in the same form", None)
    test: str | None = path_option("pairs that are the question, in the same form", None)
    refit: bool = option("learn from `valid` too once settings are chosen, and mask it")
    method: str | None = option(
        "the recommender that is measured; default: the best for this form of data", default=None
    )
    baselines: bool = option("measure popularity, item kNN with and without recency, and iALS too")
    max_items_per_user: int = option(
        "a user's last items that are learned from, so that no user counts without bound", Range(1)
    )
    max_seconds: float | None = option(
        "that the training of `method` should take at most; default: the method's own",
        Range(above=0, below=inf),
        default=None,
    )
    seed: int = option("of what is drawn at random", Range(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        by_sets = {"train": self.train, "valid": self.valid, "test": self.test}
        if self.sequences is not None:
            for name, value in by_sets.items():
                if value is not None:
                    raise ValueError(
                        f"{name}={value}: stands beside sequences={self.sequences}; give "
                        "sequences, or train, valid and test"
                    )
            if self.refit:
                raise ValueError("refit=true: is for train, valid and test; leave it out")
            return
        if self.more_sequences is not None:
            raise ValueError(
                f"more_sequences={self.more_sequences}: needs sequences, whose users are asked"
            )
        missing = [name for name, value in by_sets.items() if value is None]
        if missing:
            raise ValueError(
                f"{missing[0]} is missing: give sequences=FILE, or train, valid and test"
            )
