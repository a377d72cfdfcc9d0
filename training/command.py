"""`python train.py data.train=A.jsonl data.val=B.jsonl model=NAME output=DIR`: contrastive training
of a dual encoder on captioned videos, and its evaluation."""

import functools
import logging
import os
from typing import TYPE_CHECKING, Any

from reelseek.configs import command_line
from reelseek.configs.train_schema import Task, TrainConfig
from reelseek.training import launch

if TYPE_CHECKING:
    from reelseek.indexing.shutdown import StopRequest
    from reelseek.training.lists import RunLists
    from reelseek.training.processes import Processes
    from reelseek.training.shards.collection import ShardCollection

logger = logging.getLogger(__name__)

USAGE = """usage: python train.py data.train=A.jsonl data.val=B.jsonl model=NAME output=DIR
       [experiment=RECIPE] [name=value ...]
       python train.py task=text data.train=TEXTS pairs=PAIRS model=NAME output=DIR [name=value ...]
       python train.py eval_only=true data.val=B.jsonl model=NAME [output=DIR] [name=value ...]
       torchrun --nproc_per_node N train.py ...

Trains a model on captioned videos, or with task=text its text tower on texts; model=DIR then names
it to train, index and search. A run that was stopped continues with the same command. With
eval_only=true, evaluates text-to-video and video-to-text retrieval, or that of texts by texts. The
last line on stdout is a JSON object of metrics."""


def main(config: TrainConfig) -> None:
    if config.task is Task.text:
        from reelseek.training.text import command as text_command

        text_command.main(config)
        return
    lists = check(config)
    metrics: dict[str, Any] = {}
    if config.eval_only:
        launch.save_config(config)
    else:
        figures = train(config, lists)
        if figures is None:
            return
        if config.data.stream:
            metrics["training"] = figures
        # Evaluates the folder as it was written, the way any model is evaluated.
        config.model = command_line.load_model_config(str(config.output))
    if config.data.val:
        metrics |= evaluate(config, lists)
    launch.report(config, metrics)


def check(config: TrainConfig) -> "RunLists":
    """Reads the lists and finds mistakes before a model is loaded or a frame decoded.

    Raises:
        ValueError: names the option or the list's line.
    """
    from reelseek.training import checks
    from reelseek.training.lists import cache_folder, read_run_lists
    from reelseek.training.shards.collection import find_all_shards

    launch.check_names(config)
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


def train(config: TrainConfig, lists: "RunLists") -> dict[str, Any] | None:
    """Trains; returns figures of the run, or None in processes that do not evaluate the result."""
    from reelseek.training.run import train as run
    from reelseek.vision import start_decode_server

    def begin(processes: "Processes", stop: "StopRequest") -> launch.RunModel:
        if processes.is_main_process or config.data.stream:
            start_decode_server()  # it loads its libraries while the model is loaded here
        shards = _read_shards(config, processes, stop) if config.data.stream else None
        return lambda model: run(
            config,
            model,
            lists,
            processes=processes,
            stop=stop,
            on_accepted=functools.partial(launch.save_config, config),
            shards=shards,
        )

    return launch.run_processes(config, begin)


def _read_shards(
    config: TrainConfig, processes: "Processes", stop: "StopRequest"
) -> "ShardCollection":
    """Reads where the samples of `data.train` lie, in the first process, for all of them."""
    from reelseek.training.lists import cache_folder
    from reelseek.training.shards.collection import read_collection

    return processes.broadcast_from_rank0(
        lambda: read_collection(
            config.data.train,
            cache_folder=cache_folder(config.data) / "shard-tables",
            max_failed_fraction=config.data.max_failed_fraction,
            stop=stop,
        )
    )


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
