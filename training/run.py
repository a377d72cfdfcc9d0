"""A configuration and a model -> a trained model in a folder: the parts of a run, put together."""

import functools
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.configs.train_schema import Loss, TrainConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.batches import BatchSource, CaptionedPairs
from reelseek.training.checkpoints import Checkpoints, RunState
from reelseek.training.checks import plain_options, require_same_run
from reelseek.training.curves import EventLog, draw_curves
from reelseek.training.data import CaptionedCollection, assemble
from reelseek.training.frame_cache import CacheContents, CachedVideo
from reelseek.training.frames import CachedFrames
from reelseek.training.lists import RunLists, cache_folder, check_failed, warn_of_overlap
from reelseek.training.network import Network, require_no_batch_norm, tower_plans
from reelseek.training.objective import make_objective
from reelseek.training.optimizer import make_optimizer
from reelseek.training.order import BatchOrder, EpochBatches
from reelseek.training.processes import Processes
from reelseek.training.progress import StepProgress, summary
from reelseek.training.shards.collection import ShardCollection
from reelseek.training.shards.streaming import stream_pairs
from reelseek.training.texts import TextFeatures, tokenize
from reelseek.training.trainer import Trainer
from reelseek.training.validation import Validation
from reelseek.vision import DualEncoder, choose_precision, make_pooling, save_model

logger = logging.getLogger(__name__)

PrepareTexts = Callable[..., torch.Tensor]  # (sentences, max_tokens=0) -> (N, ...)


def train(
    config: TrainConfig,
    model: DualEncoder,
    lists: RunLists,
    *,
    processes: Processes,
    stop: StopRequest,
    on_accepted: Callable[[], None] = lambda: None,
    shards: ShardCollection | None = None,
) -> dict[str, Any] | None:
    """Trains the model and writes it into `config.output`, or continues the run that is there.

    Args:
        config: of the run.
        model: where training starts; its modules are changed in place.
        lists: the videos to train on and to validate with.
        processes: of the run.
        stop: ends the run after the current step.
        on_accepted: called once it is clear that the output holds no other run.
        shards: to train on in place of a list, decoded beside training.

    Returns:
        Figures of the run itself; None where `stop` ended it, and all that is needed to continue is
        saved.

    Raises:
        ValueError: too many videos are broken, the output holds another run, a checkpoint cannot
            be saved, or the loss is not finite.
    """
    run = _Run(config, model, lists, processes, stop, shards)
    return run_trainer(
        config, model, run.make_trainer, processes=processes, stop=stop, on_accepted=on_accepted
    )


def run_trainer(
    config: TrainConfig,
    model: DualEncoder,
    make_trainer: Callable[[Checkpoints, dict[str, Any]], Trainer | None],
    *,
    processes: Processes,
    stop: StopRequest,
    on_accepted: Callable[[], None] = lambda: None,
    data_options: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Trains with what `make_trainer` makes of the checkpoints and the run's options.

    Args:
        data_options: more about the data that a run and its continuation must share.

    Otherwise as of `train`.
    """
    output = Path(str(config.output))
    checkpoints = Checkpoints(output / "checkpoints")
    state = checkpoints.read_last()
    options = plain_options(config)
    options["model"]["fingerprint"] = model.fingerprint
    options["data"] |= data_options or {}
    if state is not None:
        require_same_run(options, state.options, output)
    if processes.is_main_process:
        on_accepted()

    trainer = make_trainer(checkpoints, options)
    if trainer is None:
        return None
    if state is not None:
        _restore(trainer, state, output)
    figures = _train_and_draw(trainer, output, processes=processes, stop=stop)
    if figures is not None and processes.is_main_process:
        _save_best(trainer, checkpoints, output)
    return figures


def make_network(config: TrainConfig, model: DualEncoder) -> Network:
    """Returns the network of a configuration; it takes over the model's modules."""
    image, text = tower_plans(config.trainable)
    options = config.pooling.options()
    pooling = model.pooling
    if options is not None and options != pooling.options():
        pooling = make_pooling(options, embedding_dim=model.embedding_dim)
    is_sigmoid = config.objective.loss is Loss.sigmoid
    return Network(
        model,
        image=image,
        text=text,
        pooling=pooling,
        logit_scale=config.objective.logit_scale,
        train_logit_scale=config.objective.train_logit_scale,
        logit_bias=config.objective.logit_bias if is_sigmoid else None,
        feature_dropout=config.loop.feature_dropout,
    )


@dataclass(frozen=True)
class _Run:
    """Makes the parts of a run."""

    config: TrainConfig
    model: DualEncoder
    lists: RunLists
    processes: Processes
    stop: StopRequest
    shards: ShardCollection | None = None

    def make_trainer(self, checkpoints: Checkpoints, options: dict[str, Any]) -> Trainer | None:
        """Decodes and encodes all that the run needs; None where it was stopped meanwhile."""
        config, processes = self.config, self.processes
        torch.manual_seed(config.loop.seed)  # of a pooling's new weights
        network = make_network(config, self.model)
        if config.trainable.from_scratch:
            require_no_batch_norm(network, model_name=config.model.name)
        cached = self._cache_frames(network)
        network.to(processes.device)
        if processes.any(bool(self.stop)):
            return None
        prepare_texts = self._prepare_texts(network)
        if processes.any(bool(self.stop)):
            return None
        if processes.is_main_process:
            warn_of_overlap(self.lists.train.items, self.lists.val.items)

        for tower in (network.image, network.text):
            if config.loop.compile and tower.plan.trunk_trains:
                tower.trunk.compile()
        rank, world_size = processes.rank, processes.world_size
        source: BatchSource
        batches: BatchOrder
        if self.shards is None:
            source, batches = self._cached_pairs(cached, prepare_texts)
        else:
            source, batches = stream_pairs(
                config,
                self.model,
                self.shards,
                processes=processes,
                is_continued=checkpoints.can_continue,
            )
        return Trainer(
            network,
            loop=config.loop,
            optimizer_config=config.optimizer,
            objective=make_objective(config.objective, rank=rank, world_size=world_size),
            optimizer=make_optimizer(network, config.optimizer),
            source=source,
            batches=batches,
            num_workers=config.data.workers,
            precision=training_precision(config, processes.device),
            processes=processes,
            checkpoints=checkpoints,
            options=options,
            validation=self._validation(cached, prepare_texts),
        )

    def _cache_frames(self, network: Network) -> dict[str, CachedVideo]:
        """Returns the frames of all videos that can be decoded, by key: features where the image
        trunk is frozen, else pixels. The first process makes those that the cache lacks."""
        config, lists = self.config, self.lists
        if not lists.items:  # shards, and nothing to validate with
            return {}
        trunk = None if network.image.plan.trunk_trains else network.image.trunk
        frames = CachedFrames(config, self.model, trunk)

        def fill() -> CacheContents:
            filled = frames.fill(lists.items, stop=self.stop, with_times=True)
            if not self.stop:
                check_failed(
                    [*lists.uncaptioned, *filled.failed],
                    num_videos=len(lists.items) + len(lists.uncaptioned),
                    max_failed_fraction=config.data.max_failed_fraction,
                    report=Path(str(config.output)) / "failed.tsv",
                )
            return filled

        return frames.cache.videos(self.processes.broadcast_from_rank0(fill).contents)

    def _prepare_texts(self, network: Network) -> PrepareTexts:
        """Returns how captions become the network's inputs: tokens where the text trunk trains,
        else its features. The first process makes those that the cache lacks."""
        if network.text.plan.trunk_trains:
            return functools.partial(tokenize, model=self.model)
        root, device = cache_folder(self.config.data), self.processes.device
        features = TextFeatures(self.model, network.text.trunk, root, device=device)

        def fill() -> None:
            train, val = self.lists.train.captions, self.lists.val.captions
            for captions, max_tokens in ((train, self.config.data.max_tokens), (val, 0)):
                if captions and not self.stop:
                    features.fill(captions, stop=self.stop, max_tokens=max_tokens)

        self.processes.broadcast_from_rank0(fill)
        return features

    def _cached_pairs(
        self, cached: dict[str, CachedVideo], texts: PrepareTexts
    ) -> tuple[CaptionedPairs, EpochBatches]:
        loop, data = self.config.loop, self.config.data
        collection = assemble(self.lists.train.items, cached)
        _require_videos("data.train", data.train, collection)
        sentences = sorted({sentence for own in collection.captions for sentence in own})
        pairs = CaptionedPairs(
            collection.videos,
            collection.captions,
            collection.sources,
            text=texts(sentences, max_tokens=data.max_tokens),
            sentence_ids={sentence: number for number, sentence in enumerate(sentences)},
            frames_per_video=loop.frames_per_video,
            flip=loop.flip,
            seed=loop.seed,
        )
        batches = EpochBatches(
            len(pairs),
            weights=np.array([data.weights.get(source, 1.0) for source in pairs.sources]),
            batch_size=loop.batch_size,
            seed=loop.seed,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
        )
        return pairs, batches

    def _validation(self, cached: dict[str, CachedVideo], texts: PrepareTexts) -> Validation | None:
        if not self.lists.val.items or not self.processes.is_main_process:
            return None
        collection = assemble(self.lists.val.items, cached)
        _require_videos("data.val", self.config.data.val, collection)
        captions = [caption for own in collection.captions for caption in own]
        return Validation(collection, texts(captions), device=self.processes.device)


def _require_videos(option: str, names: list[str], collection: CaptionedCollection) -> None:
    if not collection.videos:
        raise ValueError(f"{option}={names}: none of its videos can be decoded")


def training_precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """bf16 by autocast where that is fast: on a GPU. On a processor it casts the weights anew in
    each step, and is many times slower than fp32, so `auto` does not choose it there."""
    if config.precision == "auto" and device.type == "cpu":
        return torch.float32
    return choose_precision(config.precision, device)


def _restore(trainer: Trainer, state: RunState, output: Path) -> None:
    try:
        trainer.restore(state)
    except ValueError as error:
        raise ValueError(
            f"{output / 'checkpoints' / 'last.pt'} is of another model: {error}; name another "
            "output, or delete the checkpoints to begin anew"
        ) from error


def _train_and_draw(
    trainer: Trainer, output: Path, *, processes: Processes, stop: StopRequest
) -> dict[str, Any] | None:
    """Runs to the end, draws the curves and returns figures of the run; None where it stopped."""
    step = trainer.state.step
    if step and processes.is_main_process:
        logger.warning("going on after step %d of %d", step, trainer.num_steps)
    progress = StepProgress(
        num_steps=trainer.num_steps, first_step=step, show=processes.is_main_process
    )
    folder = output / "tensorboard" if processes.is_main_process else None
    try:
        with EventLog(folder) as log:
            for record in trainer.state.history:  # the events are written anew
                log.add(record)
            finished = trainer.run(stop=stop, log=log, progress=progress)
    finally:
        progress.close()
    if processes.is_main_process:
        try:
            draw_curves(trainer.state.history, output / "curves.png")
        except ImportError:
            logger.warning("no curves are drawn: pip install 'reelseek[train]'")
        print(summary(trainer.state, trainer.num_steps, progress.wait_fraction), file=sys.stderr)
    skipped = sum(record.get("data/num_skipped", 0) for record in trainer.state.history)
    figures = {"data_wait_fraction": progress.wait_fraction, "num_skipped_samples": skipped}
    return figures if finished else None


def _save_best(trainer: Trainer, checkpoints: Checkpoints, output: Path) -> None:
    """Writes the model with the best validated weights, or without a validation with the last."""
    best_step = trainer.best_step
    best = None if best_step is None else checkpoints.read_best()
    trainer.network.load_trained_state(trainer.finished_weights() if best is None else best)
    if best is not None and best_step == 0:
        logger.warning("no step was better on data.val than the start, which comes out again")
    save_model(trainer.network.as_model(), output)
