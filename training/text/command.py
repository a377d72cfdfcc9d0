"""`python train.py task=text data.train=TEXTS pairs=PAIRS model=NAME output=DIR`: goes on with the
training of a model's text tower on texts, and measures it on held-out ones."""

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.configs import command_line
from reelseek.configs.train_schema import TrainConfig
from reelseek.training import launch

if TYPE_CHECKING:
    from reelseek.indexing.shutdown import StopRequest
    from reelseek.training.processes import Processes
    from reelseek.training.text.lists import TextLists


def main(config: TrainConfig) -> None:
    lists = check(config)
    if config.eval_only:
        launch.save_config(config)
        launch.report(config, evaluate(config, lists))
        return
    if train(config, lists) is None:
        return
    metrics: dict[str, Any] = {}
    if lists.has_held_out:
        before = _first_validation(Path(str(config.output)))
        # Evaluates the folder as it was written, the way any model is evaluated.
        config.model = command_line.load_model_config(str(config.output))
        metrics = {"before": before, "after": evaluate(config, lists)}
    launch.report(config, metrics)


def check(config: TrainConfig) -> "TextLists":
    """Reads the files and finds mistakes before a model is loaded.

    Raises:
        ValueError: names the option or the file's line.
    """
    from reelseek.training import checks
    from reelseek.training.text.lists import read_text_lists

    launch.check_names(config)
    if not config.eval_only:
        checks.check_options(config, world_size=int(os.environ.get("WORLD_SIZE", 1)))
    return read_text_lists(config)


def train(config: TrainConfig, lists: "TextLists") -> dict[str, Any] | None:
    """Trains; returns figures of the run, or None in processes that do not evaluate the result."""
    from reelseek.training.text.run import train as run

    def begin(processes: "Processes", stop: "StopRequest") -> launch.RunModel:
        return lambda model: run(
            config,
            model,
            lists,
            processes=processes,
            stop=stop,
            on_accepted=functools.partial(launch.save_config, config),
        )

    return launch.run_processes(config, begin)


def evaluate(config: TrainConfig, lists: "TextLists") -> dict[str, Any]:
    """Returns how well a model knows the held-out texts."""
    from reelseek.training.text import run
    from reelseek.vision import load_model

    model = load_model(config.model.spec(), known_names=command_line.preset_names("model"))
    return run.evaluate(config, lists, model)


def _first_validation(output: Path) -> dict[str, Any]:
    """Returns the metrics of the run's start, from its checkpoint."""
    from reelseek.training.checkpoints import Checkpoints
    from reelseek.training.curves import is_validation

    state = Checkpoints(output / "checkpoints").read_last()
    assert state is not None
    metrics: dict[str, Any] = {}
    for name, value in next(filter(is_validation, state.history)).items():
        match name.split("/"):
            case ["val", group, metric]:
                metrics.setdefault(group, {})[metric] = value
            case ["val", metric]:
                metrics[metric] = value
    return metrics
