"""`python -m recommendation.evaluate`: measures a recommender beside four simple ones."""

import time
from pathlib import Path
from typing import Any

from reelseek.configs import command_line
from reelseek.configs.recommend_schema import EvaluateConfig
from reelseek.recommendation.data.files import check_file, read_interactions, read_titles
from reelseek.recommendation.data.influence import bound_influence
from reelseek.recommendation.data.sequences import Sequences, Vocabulary
from reelseek.recommendation.evaluation import HeldOut, last_items, measure, test_pairs
from reelseek.recommendation.recommender import FitSettings, TunableRecommender, print_progress
from reelseek.recommendation.registry import (
    BASELINE_NAMES,
    BEST_FOR_SEQUENCES,
    BEST_FOR_SETS,
    FACTORIES,
    require_libraries,
)

USAGE = """usage: python -m recommendation.evaluate sequences=FILE [more_sequences=FILE]
           [titles=FILE.csv] [method=NAME] [seed=0] [name=value ...]
       python -m recommendation.evaluate train=FILE valid=FILE test=FILE [refit=true]
           [method=NAME] [seed=0] [name=value ...]

Learns from interactions, ranks the whole catalogue for each user, and says how well that finds what
was held out. The last line on stdout is a JSON object: R@10, NDCG@10, R@20, NDCG@20, and the same
of simple recommenders under `baselines`."""


class _Task:
    """What is learned from and what is asked.

    Attributes:
        training: what is learned from; bounded for each user.
        tuning: what settings are chosen by: pairs to learn from and pairs to find; None for
            sequences, from which a recommender cuts its own.
    """

    def __init__(self, config: EvaluateConfig) -> None:
        self._config = config
        self._items = Vocabulary()
        self.tuning: tuple[Sequences, Sequences] | None = None
        self.titles: tuple[str, ...] | None = None
        self.training, self.held_out = (
            self._pairs() if config.sequences is None else self._sequences()
        )
        if config.titles is not None:
            titles = read_titles("titles", Path(config.titles))
            for item in titles:  # what nobody has chosen yet can be recommended too
                self._items.add(item)
            self.titles = tuple(titles.get(item, "") for item in self._items)

    def _sequences(self) -> tuple[Sequences, HeldOut]:
        asked = self._read("sequences")
        if self._config.more_sequences is None:
            training = asked.without_last()
        else:
            training = self._read("more_sequences")
        return self._bounded(training), last_items(asked)

    def _pairs(self) -> tuple[Sequences, HeldOut]:
        train, valid = self._read("train"), self._read("valid", may_lack_items=True)
        test = self._read("test", may_lack_items=True)
        self.tuning = (self._bounded(train), valid)
        known = train.joined_with(valid) if self._config.refit else train
        return self._bounded(known), test_pairs(known, test)

    def _read(self, option: str, *, may_lack_items: bool = False) -> Sequences:
        found = read_interactions(
            option,
            Path(getattr(self._config, option)),
            items=self._items,
            may_lack_items=may_lack_items,
            is_ordered=self._config.sequences is not None,
        )
        return found

    def _bounded(self, training: Sequences) -> Sequences:
        config = self._config
        return bound_influence(training, config.max_items_per_user, seed=config.seed)


def main(config: EvaluateConfig) -> None:
    _check_before_loading(config)
    task = _Task(config)
    default = BEST_FOR_SETS if config.sequences is None else BEST_FOR_SEQUENCES
    method = config.method or default
    summary = {"method": method, **_run(method, task, config)}
    if config.baselines:
        summary["baselines"] = {
            name: summary_of(summary) if name == method else _run(name, task, config)
            for name in BASELINE_NAMES
        }
    command_line.print_json(summary)


def summary_of(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of a method that is a baseline itself, which need not run twice."""
    return {name: value for name, value in summary.items() if name != "method"}


def _run(name: str, task: _Task, config: EvaluateConfig) -> dict[str, Any]:
    """Trains and measures one recommender; `seconds` is what both took."""
    started = time.perf_counter()
    settings = FitSettings(
        seed=config.seed,
        titles=task.titles,
        max_seconds=config.max_seconds,
        progress=print_progress(f"{name}, training"),
    )
    recommender = FACTORIES[name](settings)
    if task.tuning is not None and isinstance(recommender, TunableRecommender):
        recommender.tune(*task.tuning)
    recommender.fit(task.training)
    fitted = time.perf_counter()
    figures = measure(
        recommender,
        task.held_out,
        training=task.training,
        progress=print_progress(f"{name}, measuring"),
    )
    return {
        **figures,
        "seconds": round(time.perf_counter() - started, 2),
        "training_seconds": round(fitted - started, 2),
    }


def _check_before_loading(config: EvaluateConfig) -> None:
    """Raises a ValueError for a file that is missing or a method that is unknown, and an
    ImportError for a library that is not installed."""
    if config.method is not None and config.method not in FACTORIES:
        raise ValueError(f"method={config.method}: must be one of {', '.join(FACTORIES)}")
    for name in ("sequences", "more_sequences", "titles", "train", "valid", "test"):
        value = getattr(config, name)
        if value is not None:
            check_file(name, Path(value))
    require_libraries()


if __name__ == "__main__":
    command_line.run(main, EvaluateConfig, usage=USAGE)
