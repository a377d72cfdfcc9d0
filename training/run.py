"""A configuration and a model -> a trained model in a folder: the parts of a run, put together."""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelseek.configs.train_schema import Loss, TrainConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.batches import CaptionedPairs, EpochBatches
from reelseek.training.checkpoints import Checkpoints, RunState
from reelseek.training.checks import plain_options, require_same_run
from reelseek.training.curves import EventLog, draw_curves
from reelseek.training.data import assemble
from reelseek.training.frame_cache import CacheContents, CachedVideo
from reelseek.training.frames import CachedFrames
from reelseek.training.lists import RunLists, cache_folder, check_failed, warn_of_overlap
from reelseek.training.network import Network, tower_plans
from reelseek.training.objective import MultiPositiveClipLoss, MultiPositiveSigLipLoss, Objective
from reelseek.training.optimizer import make_optimizer
from reelseek.training.processes import Processes
from reelseek.training.progress import StepProgress
from reelseek.training.texts import TextFeatures, tokenize
from reelseek.training.trainer import LoopSettings, Trainer
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
) -> bool:
    """Trains the model and writes it into `config.output`, or goes on with what is there.

    Args:
        config: of the run.
        model: to start from; its modules are changed in place.
        lists: what to train on, and what to validate with.
        processes: of the run.
        stop: asks to stop after the step in hand.
        on_accepted: called once it is clear that the output holds no other run.

    Returns:
        False where it was asked to stop; all that is needed to go on is saved.

    Raises:
        ValueError: too many videos are broken, the output holds another run, a checkpoint cannot
            be saved, or the loss is not finite.
    """
    output = Path(str(config.output))
    checkpoints = Checkpoints(output / "checkpoints")
    state = checkpoints.read_last()
    options = plain_options(config)
    options["model"]["fingerprint"] = model.fingerprint
    if state is not None:
        require_same_run(options, state.options, output)
    if processes.is_main_process:
        on_accepted()

    torch.manual_seed(config.loop.seed)  # of a pooling's new weights
    network = make_network(config, model)
    cached = _cache_frames(config, model, network, lists, processes=processes, stop=stop)
    network.to(processes.device)
    if not processes.any(bool(stop)):
        texts = _prepare_texts(config, model, network, lists, processes=processes, stop=stop)
    if processes.any(bool(stop)):
        return False
    if processes.is_main_process:
        warn_of_overlap(lists.train.items, lists.val.items)
    trainer = _make_trainer(
        config,
        network,
        cached=cached,
        prepare_texts=texts,
        lists=lists,
        processes=processes,
        checkpoints=checkpoints,
        options=options,
    )
    if state is not None:
        try:
            trainer.restore(state)
        except ValueError as error:
            raise ValueError(
                f"{output / 'checkpoints' / 'last.pt'} is of another model: {error}; name another "
                "output, or delete the checkpoints to begin anew"
            ) from error
    finished = _run(trainer, output, processes=processes, stop=stop)
    if finished and processes.is_main_process:
        best = checkpoints.read_best() if lists.val.items else None
        network.load_trained_state(trainer.finished_weights() if best is None else best)
        if best is not None and trainer.best_step == 0:
            logger.warning("no step was better on data.val than the start, which comes out again")
        save_model(network.as_model(), output)
    return finished


def make_network(config: TrainConfig, model: DualEncoder) -> Network:
    """The network that a configuration asks for; it takes over the model's modules."""
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


def _cache_frames(
    config: TrainConfig,
    model: DualEncoder,
    network: Network,
    lists: RunLists,
    *,
    processes: Processes,
    stop: StopRequest,
) -> dict[str, CachedVideo]:
    """The frames of all videos that can be had, by key: features where the image trunk is frozen,
    else pixels. The first process makes what is not there yet."""
    trunk = None if network.image.plan.trunk_trains else network.image.trunk
    frames = CachedFrames(config, model, trunk)

    def fill() -> CacheContents:
        filled = frames.fill(lists.items, stop=stop, with_times=True)
        if not stop:
            check_failed(
                [*lists.uncaptioned, *filled.failed],
                num_videos=len(lists.items) + len(lists.uncaptioned),
                max_failed_fraction=config.data.max_failed_fraction,
                report=Path(str(config.output)) / "failed.tsv",
            )
        return filled

    return frames.cache.videos(processes.broadcast_from_rank0(fill).contents)


def _prepare_texts(
    config: TrainConfig,
    model: DualEncoder,
    network: Network,
    lists: RunLists,
    *,
    processes: Processes,
    stop: StopRequest,
) -> PrepareTexts:
    """How captions become what the network takes; where these are a frozen trunk's features, the
    first process makes what is not in the cache yet."""
    if network.text.plan.trunk_trains:
        return functools.partial(tokenize, model=model)
    root, device = cache_folder(config.data), processes.device
    features = TextFeatures(model, network.text.trunk, root, device=device)

    def fill() -> None:
        for captions, max_tokens in (
            (lists.train.captions, config.data.max_tokens),
            (lists.val.captions, 0),
        ):
            if captions and not stop:
                features.fill(captions, stop=stop, max_tokens=max_tokens)

    processes.broadcast_from_rank0(fill)
    return features


def _make_trainer(
    config: TrainConfig,
    network: Network,
    *,
    cached: dict[str, CachedVideo],
    prepare_texts: PrepareTexts,
    lists: RunLists,
    processes: Processes,
    checkpoints: Checkpoints,
    options: dict[str, Any],
) -> Trainer:
    loop, optimizer = config.loop, config.optimizer
    for tower in (network.image, network.text):
        if loop.compile and tower.plan.trunk_trains:
            tower.trunk.compile()
    collection = assemble(lists.train.items, cached)
    if not collection.videos:
        raise ValueError(f"data.train={config.data.train}: none of its videos can be decoded")
    sentences = sorted({sentence for own in collection.captions for sentence in own})
    dataset = CaptionedPairs(
        collection.videos,
        collection.captions,
        collection.sources,
        text=prepare_texts(sentences, max_tokens=config.data.max_tokens),
        sentence_ids={sentence: number for number, sentence in enumerate(sentences)},
        frames_per_video=loop.frames_per_video,
        flip=loop.flip,
        seed=loop.seed,
    )
    validation = None
    if lists.val.items and processes.is_main_process:
        val = assemble(lists.val.items, cached)
        if not val.videos:
            raise ValueError(f"data.val={config.data.val}: none of its videos can be decoded")
        captions = [caption for own in val.captions for caption in own]
        validation = Validation(val, prepare_texts(captions), device=processes.device)
    return Trainer(
        network,
        objective=_make_objective(config, processes),
        optimizer=make_optimizer(
            network,
            lr=optimizer.lr,
            text_lr=optimizer.text_lr,
            pooling_lr=optimizer.pooling_lr,
            trunk_lr=optimizer.trunk_lr,
            layer_decay=optimizer.layer_decay,
            weight_decay=optimizer.weight_decay,
        ),
        dataset=dataset,
        batches=EpochBatches(
            len(dataset),
            weights=np.array([config.data.weights.get(name, 1.0) for name in dataset.sources]),
            batch_size=loop.batch_size,
            seed=loop.seed,
            rank=processes.rank,
            world_size=processes.world_size,
        ),
        settings=LoopSettings(
            epochs=loop.epochs,
            accumulate_steps=loop.accumulate_steps,
            chunk_size=loop.chunk_size,
            warmup_steps=optimizer.warmup_steps,
            max_grad_norm=optimizer.max_grad_norm,
            wise_ft_alpha=optimizer.wise_ft_alpha,
            seed=loop.seed,
            eval_every=loop.eval_every,
            save_every_seconds=loop.save_every_seconds,
            num_workers=config.data.workers,
            precision=_training_precision(config, processes.device),
        ),
        processes=processes,
        checkpoints=checkpoints,
        options=options,
        validation=validation,
    )


def _make_objective(config: TrainConfig, processes: Processes) -> Objective:
    rank, world_size = processes.rank, processes.world_size
    if config.objective.loss is Loss.sigmoid:
        return MultiPositiveSigLipLoss(rank=rank, world_size=world_size)
    return MultiPositiveClipLoss(
        label_smoothing=config.objective.label_smoothing, rank=rank, world_size=world_size
    )


def _training_precision(config: TrainConfig, device: torch.device) -> torch.dtype:
    """bf16 by autocast where that is fast: on a GPU. On a processor it casts the weights anew in
    each step, and is many times slower than fp32, so there it has to be asked for."""
    if config.precision == "auto" and device.type == "cpu":
        return torch.float32
    return choose_precision(config.precision, device)


def _run(trainer: Trainer, output: Path, *, processes: Processes, stop: StopRequest) -> bool:
    """Runs to the end or to a stop, and draws the curves."""
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
    return finished


def summary(state: RunState, num_steps: int, wait_fraction: float) -> str:
    """A run in a few lines for a person."""
    losses = [record["train/loss"] for record in state.history if "train/loss" in record]
    evaluated = [record for record in state.history if "val/t2v/R@1" in record]
    lines = [f"{state.step} of {num_steps} steps; {wait_fraction:.1%} of the time waiting for data"]
    if losses:
        lines.append(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
    if evaluated:
        best = max(evaluated, key=lambda r: sum(r[f"val/t2v/R@{k}"] for k in (1, 5, 10)))
        for name, record in (("at first", evaluated[0]), ("best", best)):
            recalls = "/".join(f"{record[f'val/t2v/R@{k}']:.1f}" for k in (1, 5, 10))
            lines.append(f"validation {name} (step {record['step']}): t2v R@1/5/10 {recalls}")
    return "\n".join(lines)
