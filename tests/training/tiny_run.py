"""A model and a collection so small that a training step takes milliseconds, and what each process
of `torchrun` does with them: `torchrun -m tests.training.tiny_run FOLDER`."""

import json
import signal
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

from reelseek.configs.train_schema import LoopConfig, OptimizerConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.batches import BatchSource, CaptionedPairs
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.curves import EventLog
from reelseek.training.frame_cache import CachedVideo
from reelseek.training.network import Network, TowerPlan
from reelseek.training.objective import MultiPositiveClipLoss, MultiPositiveSigLipLoss
from reelseek.training.optimizer import make_optimizer
from reelseek.training.order import BatchOrder, EpochBatches
from reelseek.training.processes import Processes, join_processes
from reelseek.training.progress import StepProgress
from reelseek.training.shards.collection import ShardCollection, read_collection
from reelseek.training.shards.order import ShardOrder
from reelseek.training.shards.pairs import LoadPlan, ShardPairs
from reelseek.training.shards.skipped import SkippedSamples
from reelseek.training.shards.worker import SampleSettings
from reelseek.training.texts import compute_features
from reelseek.training.texts import tokenize as tokenize_for
from reelseek.training.trainer import NonFiniteLossError, Trainer
from reelseek.vision import (
    DualEncoder,
    ModelSpec,
    Preprocessing,
    UniformSampler,
    WorkerLimits,
    make_pooling,
)
from tests.training.shards.generated import write_shards

WIDTH, EMBEDDING_DIM, CONTEXT_LENGTH, VOCABULARY = 16, 12, 8, 32
NUM_VIDEOS, BATCH_SIZE = 20, 10  # and twice as many captions
STEPS_EACH, NUM_STEPS = 4, 8  # an epoch, and a run
BROKEN_SAMPLES = [(1, 2), (6, 7)]  # of the shards that are written
ALONE = Processes(0, 1, torch.device("cpu"))

# Of training over several processes, as many steps each. A process has 5 pairs of a batch, which
# chunks of 2 do not divide.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    f"{loss}, {trains}, chunks of {chunk_size}, accumulating {accumulate_steps}": {
        "loss": loss,
        "trains": trains,
        "chunk_size": chunk_size,
        "accumulate_steps": accumulate_steps,
        "epochs": NUM_STEPS // STEPS_EACH * accumulate_steps,
    }
    for loss in ("infonce", "sigmoid")
    for trains, chunk_size, accumulate_steps in (
        ("heads", 0, 1),
        ("heads", 2, 1),
        ("all", 0, 2),
        ("all", 2, 2),
    )
}


def tokenize(sentences: Sequence[str], context_length: int = CONTEXT_LENGTH) -> torch.Tensor:
    """Words as tokens from 1, the highest at the end, as in CLIP; 0 pads."""
    tokens = torch.zeros(len(sentences), context_length, dtype=torch.int64)
    for row, sentence in zip(tokens, sentences, strict=True):
        words = [1 + zlib.crc32(word.encode()) % (VOCABULARY - 2) for word in sentence.split()]
        words = [*words[: context_length - 1], VOCABULARY - 1]
        row[: len(words)] = torch.tensor(words)
    return tokens


def make_model(*, custom_text: bool = False, **options: Any) -> DualEncoder:
    """A dual encoder of two small transformers with weights by chance, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
        clip = make(
            embed_dim=EMBEDDING_DIM,
            vision_cfg={
                "image_size": 16,
                "patch_size": 8,
                "width": WIDTH,
                "layers": 2,
                "head_width": 8,
            },
            text_cfg={
                "context_length": CONTEXT_LENGTH,
                "vocab_size": VOCABULARY,
                "width": WIDTH,
                "heads": 2,
                "layers": 2,
            },
            **options,
        )
    return DualEncoder(
        spec=ModelSpec("tiny", scripts=("Latin",)),
        clip=clip.eval(),
        tokenize=tokenize,
        context_length=CONTEXT_LENGTH,
        embedding_dim=EMBEDDING_DIM,
        preprocessing=Preprocessing((16, 16), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    )


def make_videos(num_videos: int = NUM_VIDEOS, *, pixels: bool = False) -> list[CachedVideo]:
    """Videos of two to five frames: features of the trunk's width, or pixels."""
    random = np.random.default_rng(0)
    videos = []
    for number in range(num_videos):
        length = 2 + number % 4
        if pixels:
            frames = random.integers(0, 256, (length, 3, 16, 16), np.uint8)
        else:
            frames = random.standard_normal((length, WIDTH)).astype(np.float16)
        videos.append(CachedVideo(f"video-{number}.mp4", frames))
    return videos


def make_captions(num_videos: int = NUM_VIDEOS) -> list[list[str]]:
    """Two for each video: one of its own, and one that it shares with every sixth."""
    return [[f"this is film {n}", f"some film of {n % 6}"] for n in range(num_videos)]


def make_network(
    model: DualEncoder | None = None,
    *,
    trains: str = "heads",
    logit_bias: float | None = None,
    feature_dropout: float = 0.0,
) -> Network:
    plan = TowerPlan(trains)
    return Network(
        make_model() if model is None else model,
        image=plan,
        text=plan,
        pooling=make_pooling({"kind": "mean"}, embedding_dim=EMBEDDING_DIM),
        logit_scale=10.0,
        logit_bias=logit_bias,
        feature_dropout=feature_dropout,
    )


def make_optimizer_config(**changes: Any) -> OptimizerConfig:
    defaults: dict[str, Any] = {
        "lr": 1e-2,
        "trunk_lr": 1e-3,
        "layer_decay": 0.7,
        "weight_decay": 0.1,
        "warmup_steps": 2,
        "max_grad_norm": 1.0,
        "wise_ft_alpha": 0.0,
    }
    return OptimizerConfig(**(defaults | changes))


_OF_OPTIMIZER = {field.name for field in fields(OptimizerConfig)}


def make_loop_config(**changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "epochs": 2,
        "batch_size": BATCH_SIZE,
        "chunk_size": 0,
        "accumulate_steps": 1,
        "frames_per_video": 0,
        "feature_dropout": 0.0,
        "flip": False,
        "compile": False,
        "seed": 0,
        "eval_every": 1,
        "save_every_seconds": 1e9,
    }
    return LoopConfig(**(defaults | changes))


def make_trainer(
    folder: Path,
    *,
    processes: Processes = ALONE,
    loss: str = "infonce",
    trains: str = "heads",
    videos: Sequence[CachedVideo] | None = None,
    frames_per_video: int = 2,
    batch_size: int = BATCH_SIZE,
    feature_dropout: float = 0.0,
    objective: Callable[..., torch.Tensor] | None = None,
    validation: Any = None,
    num_workers: int = 0,
    pairs: tuple[BatchSource, BatchOrder] | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer whose checkpoints are in the folder; `settings` are those of the
    loop and of the optimizer. `pairs` takes the place of the videos."""
    model = make_model()
    network = make_network(
        model,
        trains=trains,
        logit_bias=-5.0 if loss == "sigmoid" else None,
        feature_dropout=feature_dropout,
    )
    if videos is None:
        videos = make_videos(pixels=trains != "heads")
    captions = make_captions(len(videos))
    sentences = sorted({caption for own in captions for caption in own})
    dataset = CaptionedPairs(
        videos,
        captions,
        text=prepare_texts(sentences, model, network, device=processes.device),
        sentence_ids={sentence: number for number, sentence in enumerate(sentences)},
        frames_per_video=frames_per_video,
    )
    make_loss = MultiPositiveSigLipLoss if loss == "sigmoid" else MultiPositiveClipLoss
    rank, world_size = processes.rank, processes.world_size
    optimizer_config = make_optimizer_config(
        **{name: settings.pop(name) for name in _OF_OPTIMIZER & settings.keys()}
    )
    return Trainer(
        network,
        objective=objective or make_loss(rank=rank, world_size=world_size),  # type: ignore[arg-type]
        optimizer=make_optimizer(network, optimizer_config),
        source=pairs[0] if pairs else dataset,
        batches=pairs[1]
        if pairs
        else EpochBatches(
            len(dataset), batch_size=batch_size, seed=0, rank=rank, world_size=world_size
        ),
        loop=make_loop_config(**settings),
        optimizer_config=optimizer_config,
        processes=processes,
        checkpoints=Checkpoints(folder),
        options={"loss": loss},
        num_workers=num_workers,
        validation=validation,
    )


def prepare_texts(
    sentences: Sequence[str],
    model: DualEncoder,
    network: Network,
    *,
    device: torch.device,
    max_tokens: int = 0,
) -> torch.Tensor:
    """Tokens `(N, L)` int64 where the text trunk trains, else its features `(N, F)` float32,
    computed now, without a cache.

    Args:
        max_tokens: longer sentences are cut to it; 0 for as many as the model reads.
    """
    tokens = tokenize_for(sentences, model, max_tokens)
    if network.text.plan.trunk_trains:
        return tokens
    features: list[Any] = [None] * len(tokens)
    for indices, part in compute_features(tokens, network.text.trunk, model.clip, device=device):
        for index, row in zip(indices.tolist(), part, strict=True):
            features[index] = row
    return torch.stack(features)


class Watch(StepProgress):
    """Silent progress that calls back after each step with how many are done."""

    def __init__(self, after_step: Callable[[int], None]) -> None:
        super().__init__(num_steps=0, show=False)
        self._after_step = after_step

    def step(self, record: dict[str, Any]) -> None:
        self._after_step(record["step"])


def run(
    trainer: Trainer,
    *,
    stop_after: int = -1,
    after_step: Callable[[int], None] = lambda step: None,
) -> bool:
    """Trains to the end, or until the step after which it is asked to stop."""
    stop = StopRequest()

    def watch(step: int) -> None:
        if step == stop_after:
            stop.signal_number = signal.SIGTERM
        after_step(step)

    with EventLog(None) as log:
        return trainer.run(stop=stop, log=log, progress=Watch(watch))


def resume(folder: Path, **options: Any) -> Trainer:
    """A new trainer that goes on from the checkpoint in the folder."""
    trainer = make_trainer(folder, **options)
    state = Checkpoints(folder).read_last()
    assert state is not None
    trainer.restore(state)
    return trainer


def losses_of(trainer: Trainer) -> list[float]:
    history = trainer.state.history
    return [record["train/loss"] for record in history if "train/loss" in record]


def train_all(
    folder: Path, processes: Processes
) -> tuple[dict[str, list[float]], dict[str, dict[str, torch.Tensor]]]:
    """The losses and the weights that each of the configurations ends with."""
    losses, weights = {}, {}
    for number, (name, options) in enumerate(CONFIGURATIONS.items()):
        trainer = make_trainer(folder / str(number), processes=processes, **options)
        assert run(trainer)
        losses[name], weights[name] = losses_of(trainer), trainer.finished_weights()
    return losses, weights


def train_on_shards(folder: Path, processes: Processes) -> Trainer:
    """Trains for two epochs of ten shards, of which one is broken, and two samples of others."""

    def write() -> ShardCollection:
        write_shards(folder, num_shards=10, broken=BROKEN_SAMPLES)
        (folder / "0004.tar").write_bytes(b"no tar")
        return read_collection(
            [str(folder)],
            cache_folder=folder / "tables",
            max_failed_fraction=0.5,
            stop=StopRequest(),
        )

    shards = processes.broadcast_from_rank0(write)
    order = ShardOrder(
        shards.sizes,
        batch_size=BATCH_SIZE,
        seed=0,
        shards_per_group=3,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    model = make_model()
    pairs = ShardPairs(
        shards,
        order,
        LoadPlan(
            SampleSettings(
                UniformSampler(2), model.preprocessing, ("pyav",), min_crop_area=0.5, flip=True
            ),
            num_workers=1,
            limits=WorkerLimits(),
            seed=0,
        ),
        skipped=SkippedSamples(
            folder / "skipped.tsv", shards.broken, max_failed_fraction=0.5, processes=processes
        ),
        tokenize=lambda captions: tokenize_for(captions, model),
    )
    trainer = make_trainer(
        folder / "run", processes=processes, trains="all", pairs=(pairs, order), epochs=2
    )
    assert run(trainer)
    return trainer


def with_broken_video(number: int, value: float = float("nan")) -> list[CachedVideo]:
    """The videos, of which one has features that are no numbers."""
    videos = make_videos()
    frames = np.full_like(videos[number].frames, value)
    return [*videos[:number], CachedVideo(videos[number].key, frames), *videos[number + 1 :]]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    with join_processes("cpu") as processes:
        rank = processes.rank
        report["joined"] = [rank, processes.world_size, str(processes.device)]
        report["value of the first"] = processes.broadcast_from_rank0(lambda: f"made by {rank}")
        report["any"] = [processes.any(rank == 1), processes.any(False), processes.any(True)]

        def fail() -> None:
            raise FileNotFoundError(2, "no such list", f"list-{rank}.csv")

        try:
            processes.broadcast_from_rank0(fail)
        except Exception as error:
            report["error of the first"] = [type(error).__name__, str(error)]

        report["losses"], weights = train_all(folder / "all", processes)

        stopping = make_trainer(folder / "stopped", processes=processes)
        run(stopping, stop_after=3 if rank == 1 else -1)
        report["stopped at"] = stopping.state.step
        processes.broadcast_from_rank0(lambda: None)  # the checkpoint is there now
        resumed = resume(folder / "stopped", processes=processes)
        run(resumed)
        report["losses of a resumed run"] = losses_of(resumed)

        broken = make_trainer(
            folder / "broken", processes=processes, videos=with_broken_video(3), epochs=1
        )
        try:
            run(broken)
        except NonFiniteLossError as error:
            report["non-finite"] = [broken.state.step, str(error)]
        streamed = train_on_shards(folder / "shards", processes)
        report["streamed"] = streamed.state.history
        weights["streamed"] = streamed.finished_weights()
    torch.save(weights, folder / f"weights-{rank}.pt")
    (folder / f"report-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
