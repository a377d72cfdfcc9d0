"""What every task of `train.py` begins and ends with."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from reelseek.configs import command_line
from reelseek.configs.train_schema import TrainConfig

if TYPE_CHECKING:
    from reelseek.indexing.shutdown import StopRequest
    from reelseek.training.processes import Processes
    from reelseek.vision import DualEncoder

# Trains a model; returns figures of the run, or None where it was stopped.
RunModel: TypeAlias = "Callable[[DualEncoder], dict[str, Any] | None]"


def check_names(config: TrainConfig) -> None:
    """Refuses unknown models, and outputs that cannot be written or hold another run.

    Raises:
        ValueError: names the option.
    """
    from reelseek.training import checks
    from reelseek.vision import check_model_name

    check_model_name(config.model.name, known_names=command_line.preset_names("model"))
    if config.output is not None:
        checks.check_folder("output", Path(config.output))
        _check_other_run(config, Path(config.output))


def save_config(config: TrainConfig) -> None:
    """Writes the options into the output's folder, which is made."""
    from reelseek.indexing.store.atomic import write_atomically

    if config.output is not None:
        Path(config.output).mkdir(parents=True, exist_ok=True)
        write_atomically(Path(config.output) / "config.yaml", command_line.to_yaml(config).encode())


def run_processes(
    config: TrainConfig, begin: "Callable[[Processes, StopRequest], RunModel]"
) -> dict[str, Any] | None:
    """Joins the run's processes, loads the model and trains it; ends the process where it was
    stopped.

    Args:
        begin: prepares what takes no model; returns how a model is trained.

    Returns:
        Figures of the run; None in processes that do not evaluate the result.
    """
    from reelseek.indexing.shutdown import stop_on_signals
    from reelseek.training.processes import join_processes
    from reelseek.vision import load_model

    with join_processes(config.device) as processes:
        with stop_on_signals() as stop:
            run = begin(processes, stop)
            model = load_model(
                config.model.spec(),
                known_names=command_line.preset_names("model"),
                new_weights_seed=config.loop.seed if config.trainable.from_scratch else None,
            )
            figures = run(model)
        if figures is None:
            if processes.is_main_process:
                print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(128 + (stop.signal_number or signal.SIGTERM))
        return figures if processes.is_main_process else None


def report(config: TrainConfig, metrics: dict[str, Any]) -> None:
    """Prints the metrics, and writes them into the output's folder."""
    from reelseek.indexing.store.atomic import write_atomically
    from reelseek.text import strict_json

    if config.output is not None:
        write_atomically(
            Path(config.output) / "metrics.json",
            (strict_json.dumps(metrics, indent=2) + "\n").encode(),
        )
    command_line.print_json(metrics)


def _check_other_run(config: TrainConfig, output: Path) -> None:
    """Refuses a folder with the checkpoints of another run."""
    from reelseek.training import checks

    if not (output / "checkpoints").exists():
        return
    if config.eval_only:
        raise ValueError(
            f"output={output}: holds a trained model with its own metrics; name another folder"
        )
    if (output / "config.yaml").is_file():
        theirs = checks.comparable_options(command_line.read_yaml(output / "config.yaml"))
        checks.require_same_run(checks.plain_options(config), theirs, output)
