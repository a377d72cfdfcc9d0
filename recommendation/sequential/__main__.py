"""`python -m recommendation.sequential sequences=FILE output=DIR`: trains the sequential model."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.configs import command_line
from reelseek.configs.sequential_schema import SequentialConfig
from reelseek.recommendation.data.files import check_file, read_interactions, read_titles
from reelseek.recommendation.data.influence import bound_influence
from reelseek.recommendation.data.sequences import Sequences, Vocabulary

if TYPE_CHECKING:
    from reelseek.recommendation.sequential.model import SequentialModel

USAGE = """usage: python -m recommendation.sequential sequences=FILE output=DIR [titles=FILE.csv]
           [name=value ...]
       torchrun --nproc_per_node N -m recommendation.sequential ...

Trains a transformer that says what a user chooses next, and writes it into a folder that a server
loads. A run that was stopped continues with the same command. The last line on stdout is a JSON
object: the sizes of the model, and how much item transitions count beside it."""


def main(config: SequentialConfig) -> None:
    from reelseek.indexing.store.atomic import check_can_write_folder

    check_file("sequences", Path(config.sequences))
    if config.titles is not None:
        check_file("titles", Path(config.titles))
    output = Path(config.output)
    check_can_write_folder("output", output)
    training, titles = _read(config)
    model = _train(config, training, titles)
    if model is None:  # another process writes it
        return
    model.save(output)
    command_line.print_json(
        {
            "num_users": training.num_users,
            "num_items": training.num_items,
            "num_events": training.num_events,
            "num_networks": len(model.networks),
            "transitions_weight": model.transitions_weight,
            "fingerprint": model.fingerprint,
        }
    )


def _read(config: SequentialConfig) -> tuple[Sequences, tuple[str, ...] | None]:
    """Returns the sequences, and the titles of their items and of others."""
    items = Vocabulary()
    read = read_interactions("sequences", Path(config.sequences), items=items)
    training = bound_influence(read, config.max_items_per_user, seed=config.seed)
    if config.titles is None:
        return training, None
    titles = read_titles("titles", Path(config.titles))
    for item in titles:  # what nobody has chosen yet can be recommended too
        items.add(item)
    return training, tuple(titles.get(item, "") for item in items)


def _train(
    config: SequentialConfig, training: Sequences, titles: tuple[str, ...] | None
) -> "SequentialModel | None":
    """Returns the model in the first process; ends the process where it was stopped."""
    from reelseek.indexing.shutdown import stop_on_signals
    from reelseek.recommendation.recommender import print_progress, silent
    from reelseek.recommendation.sequential.content import titles_content
    from reelseek.recommendation.sequential.run import ModelSettings, train_model
    from reelseek.training.processes import join_processes

    settings = ModelSettings(config.network, config.loop, config.ensemble, config.seed)
    with join_processes(config.device) as processes:
        show = print_progress("training") if processes.is_main_process else silent
        with stop_on_signals() as stop:
            model = train_model(
                training,
                settings,
                read_content=titles_content(titles, config.text_model),
                processes=processes,
                folder=Path(config.output) / "checkpoints",
                stop=stop,
                progress=show,
            )
        if model is None:
            if processes.is_main_process:
                print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(128 + (stop.signal_number or signal.SIGTERM))
        return model if processes.is_main_process else None


if __name__ == "__main__":
    command_line.run(main, SequentialConfig, usage=USAGE)
