"""`python train.py data.train=A.jsonl data.val=B.jsonl model=NAME output=DIR`: contrastive training
of a dual encoder on captioned videos, and its evaluation."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.configs import command_line
from reelseek.configs.train_schema import TrainConfig

if TYPE_CHECKING:
    from reelseek.training.lists import RunLists

logger = logging.getLogger(__name__)

USAGE = """usage: python train.py data.train=A.jsonl data.val=B.jsonl model=NAME output=DIR
       [experiment=RECIPE] [name=value ...]
       python train.py eval_only=true data.val=B.jsonl model=NAME [output=DIR] [name=value ...]
       torchrun --nproc_per_node N train.py ...

Trains a model on captioned videos; model=DIR then names it to train, index and search. A run that
was stopped continues with the same command. With eval_only=true, evaluates text-to-video and
video-to-text retrieval. The last line on stdout is a JSON object of metrics."""


def main(config: TrainConfig) -> None:
    from reelseek.indexing.store.atomic import write_atomically

    lists = check(config)
    output = None if config.output is None else Path(config.output)

    def save_config() -> None:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            write_atomically(output / "config.yaml", command_line.to_yaml(config).encode())

    metrics: dict[str, Any] = {}
    if config.eval_only:
        save_config()
    else:
        figures = train(config, lists, save_config)
        if figures is None:
            return
        if config.data.stream:
            metrics["training"] = figures
        # Evaluates the folder as it was written, the way any model is evaluated.
        config.model = command_line.load_model_config(str(output))
    metrics |= evaluate(config, lists) if config.data.val else {}
    if output is not None:
        from reelseek.text import strict_json

        write_atomically(
            output / "metrics.json", (strict_json.dumps(metrics, indent=2) + "\n").encode()
        )
    command_line.print_json(metrics)


def check(config: TrainConfig) -> "RunLists":
    """Reads the lists and finds mistakes before a model is loaded or a frame decoded.

    Raises:
        ValueError: names the option or the list's line.
    """
    from reelseek.training import checks
    from reelseek.training.lists import cache_folder, read_run_lists
    from reelseek.training.shards.collection import find_all_shards
    from reelseek.vision import check_model_name

    check_model_name(config.model.name, known_names=command_line.preset_names("model"))
    if config.output is not None:
        checks.check_folder("output", Path(config.output))
        _check_other_run(config, Path(config.output))
    checks.check_folder("data.cache", cache_folder(config.data))
    if not config.eval_only:
        checks.check_options(config, world_size=int(os.environ.get("WORLD_SIZE", 1)))
    lists = read_run_lists(config.data)
    if not (config.eval_only or config.data.stream):
        checks.check_lists(config, lists)
    elif config.data.val:
        checks.check_evaluated(config, lists)
    if config.data.stream and not config.eval_only:
        find_all_shards(config.data.train)
    return lists


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


def train(
    config: TrainConfig, lists: "RunLists", save_config: Callable[[], None]
) -> dict[str, Any] | None:
    """Trains; returns figures of the run, or None in processes that do not evaluate the result."""
    from reelseek.indexing.shutdown import stop_on_signals
    from reelseek.training.lists import cache_folder
    from reelseek.training.processes import join_processes
    from reelseek.training.run import train as run
    from reelseek.training.shards.collection import read_collection
    from reelseek.vision import load_model, start_decode_server

    with join_processes(config.device) as processes, stop_on_signals() as stop:
        if processes.is_main_process or config.data.stream:
            start_decode_server()  # it loads its libraries while the model is loaded here
        shards = None
        if config.data.stream:
            shards = processes.broadcast_from_rank0(
                lambda: read_collection(
                    config.data.train,
                    cache_folder=cache_folder(config.data) / "shard-tables",
                    max_failed_fraction=config.data.max_failed_fraction,
                    stop=stop,
                )
            )
        model = load_model(
            config.model.spec(),
            known_names=command_line.preset_names("model"),
            new_weights_seed=config.loop.seed if config.trainable.from_scratch else None,
        )
        figures = run(
            config,
            model,
            lists,
            processes=processes,
            stop=stop,
            on_accepted=save_config,
            shards=shards,
        )
        if figures is None:
            if processes.is_main_process:
                print("stopped; the same command goes on", file=sys.stderr)
            sys.exit(128 + (stop.signal_number or signal.SIGTERM))
        return figures if processes.is_main_process else None


def evaluate(config: TrainConfig, lists: "RunLists") -> dict:
    """Returns a model's retrieval metrics on `config.data.val`, and how many videos failed."""
    from reelseek.ranking.searcher import Searcher
    from reelseek.text import everyday_queries
    from reelseek.training.evaluation import Evaluator, sample_bank
    from reelseek.training.retrieval import measure
    from reelseek.training.source_evaluation import measure_sources
    from reelseek.vision import load_model, start_decode_server

    start_decode_server()  # it loads its libraries while the model is loaded here
    model = load_model(config.model.spec(), known_names=command_line.preset_names("model"))
    evaluator = Evaluator(config, model)
    videos = evaluator.embed_videos(lists.val)
    bank = sample_bank(lists.train.captions)
    embeddings = evaluator.embed_texts([*videos.captions, *bank])
    similarity = (embeddings @ videos.embeddings.T).numpy()
    num_queries = len(videos.captions)
    metrics = measure(
        similarity[:num_queries],
        videos.caption_video,
        temperature=(-model.clip.logit_scale.detach()).exp().item(),
        bank_similarity=similarity[num_queries:] if bank else None,
        num_bootstrap=config.num_bootstrap,
    )
    metrics["sources"] = measure_sources(
        videos,
        open_searcher=lambda reader: Searcher(reader, model, device=config.device),
        sentences=evaluator.embed_texts(everyday_queries()).numpy(),
    )
    return metrics | {"num_failed": len(videos.failed), "fingerprint": model.fingerprint}
