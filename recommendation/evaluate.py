"""`python -m recommendation.evaluate`: measures a recommender beside four simple ones."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelseek.configs import command_line
from reelseek.configs.recommend_schema import EvaluateConfig
from reelseek.recommendation.data.files import check_file, read_interactions, read_titles
from reelseek.recommendation.data.influence import bound_influence
from reelseek.recommendation.data.sequences import Sequences, Vocabulary
from reelseek.recommendation.data.splits import (
    HeldOut,
    held_out_items,
    last_items,
    sorted_catalogue,
)
from reelseek.recommendation.evaluation import measure
from reelseek.recommendation.recommender import FitSettings, TunableRecommender, print_progress
from reelseek.recommendation.registry import (
    BASELINE_NAMES,
    BEST_FOR_SEQUENCES,
    BEST_FOR_SETS,
    FACTORIES,
    require_libraries,
)

logger = logging.getLogger(__name__)

USAGE = """usage: python -m recommendation.evaluate sequences=FILE [more_sequences=FILE]
           [titles=FILE.csv] [method=NAME] [seed=0] [name=value ...]
       python -m recommendation.evaluate train=FILE valid=FILE test=FILE [refit=true]
           [method=NAME] [seed=0] [name=value ...]

Learns from interactions, ranks the whole catalogue for each user, and says how well that finds what
was held out. The last line on stdout is a JSON object: R@10, NDCG@10, R@20, NDCG@20, and the same
of simple recommenders under `baselines`."""

_INTERACTIONS = ("sequences", "more_sequences", "train", "valid", "test")


@dataclass(frozen=True)
class _Task:
    """What is learned from and what is asked.

    Attributes:
        training: what is learned from; bounded for each user.
        tuning: what settings are chosen by: pairs to learn from and pairs to find; None for
            sequences, from which a recommender cuts its own.
        titles: of each item by its number.
    """

    training: Sequences
    held_out: HeldOut
    tuning: tuple[Sequences, Sequences] | None
    titles: tuple[str, ...] | None


def _read_task(config: EvaluateConfig) -> _Task:
    items = Vocabulary()
    is_ordered = config.sequences is not None
    parts = {
        name: read_interactions(
            name,
            Path(path),
            items=items,
            is_ordered=is_ordered,
            may_lack_items=name in ("valid", "test"),
        )
        for name in _INTERACTIONS
        if (path := getattr(config, name)) is not None
    }
    titles = {} if config.titles is None else read_titles("titles", Path(config.titles))
    for item in titles:  # what nobody has chosen yet can be recommended too
        items.add(item)
    parts = dict(zip(parts, sorted_catalogue(list(parts.values())), strict=True))
    catalogue = next(iter(parts.values())).items
    title_of = tuple(titles.get(item, "") for item in catalogue) if titles else None

    def bounded(training: Sequences) -> Sequences:
        return bound_influence(training, config.max_items_per_user, seed=config.seed)

    if is_ordered:
        asked = parts["sequences"]
        more = parts.get("more_sequences")
        training = asked.without_last() if more is None else _of_others(more, asked)
        if not training.num_events:
            raise ValueError(
                f"sequences={config.sequences}: without last items nothing is left to learn from; "
                "give users of two items or more, or more_sequences"
            )
        return _Task(bounded(training), last_items(asked), None, title_of)
    train, valid, test = parts["train"], parts["valid"], parts["test"]
    known = train.joined_with(valid) if config.refit else train
    tuning = (bounded(train), valid)
    return _Task(bounded(known), held_out_items(known, test), tuning, title_of)


def _of_others(more: Sequences, asked: Sequences) -> Sequences:
    """Leaves out users who are asked about: their further events may hold the answer.

    Raises:
        ValueError: nobody is left.
    """
    others = more.without_users(asked.users)
    if num_both := more.num_users - others.num_users:
        logger.warning("%d users of more_sequences are asked about: not trained on", num_both)
    if not others.num_events:
        raise ValueError(
            "more_sequences holds only users of sequences: give others, or leave it out"
        )
    return others


def main(config: EvaluateConfig) -> None:
    _check_before_loading(config)
    task = _read_task(config)
    default = BEST_FOR_SETS if config.sequences is None else BEST_FOR_SEQUENCES
    method = config.method or default
    summary = {"method": method, **_run(method, task, config)}
    if config.baselines:
        summary["baselines"] = {
            name: _figures(summary) if name == method else _run(name, task, config)
            for name in BASELINE_NAMES
        }
    command_line.print_json(summary)


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Those of a method that is a baseline itself, which need not run twice."""
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
    chosen = {}
    if task.tuning is not None and isinstance(recommender, TunableRecommender):
        recommender.tune(*task.tuning)
        chosen = {"settings": recommender.chosen_settings()}
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
        **chosen,
        "seconds": round(time.perf_counter() - started, 2),
        "training_seconds": round(fitted - started, 2),
    }


def _check_before_loading(config: EvaluateConfig) -> None:
    """Raises a ValueError for a file that is missing or a method that is unknown, and an
    ImportError for a library that is not installed."""
    if config.method is not None and config.method not in FACTORIES:
        raise ValueError(f"method={config.method}: must be one of {', '.join(FACTORIES)}")
    for name in (*_INTERACTIONS, "titles"):
        value = getattr(config, name)
        if value is not None:
            check_file(name, Path(value))
    require_libraries()


if __name__ == "__main__":
    command_line.run(main, EvaluateConfig, usage=USAGE)
