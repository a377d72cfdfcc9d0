"""Training on WebDataset shards that are decoded beside the loop, and inside it, in the same run.

    python benchmarks/shard_streaming.py [model=clip_vit_b32] [rounds=3] [num_shards=20]
                                         [shard_samples=64] [batch_size=32] [steps=10]
                                         [workers=0] [ahead=2] [device=auto]

Writes shards of JPEG pictures of 640 x 480 pixels, of which each eighth is a video of 2 seconds
instead, trains a model with random weights on them, random resized crops and all, and prints the
fraction of the loop's time that it waits for data and the samples a second, as medians with their
spread. Inside the loop, one process reads, decodes and crops a batch before each step.
"""

import io
import json
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.command_line import load_model_config  # noqa: E402
from reelseek.configs.train_schema import LoopConfig, OptimizerConfig  # noqa: E402
from reelseek.indexing import StopRequest  # noqa: E402
from reelseek.training.batches import Batch, collate, step_seed  # noqa: E402
from reelseek.training.checkpoints import Checkpoints  # noqa: E402
from reelseek.training.curves import EventLog  # noqa: E402
from reelseek.training.network import Network, TowerPlan  # noqa: E402
from reelseek.training.objective import MultiPositiveClipLoss  # noqa: E402
from reelseek.training.optimizer import make_optimizer  # noqa: E402
from reelseek.training.processes import Processes  # noqa: E402
from reelseek.training.progress import StepProgress  # noqa: E402
from reelseek.training.shards.collection import ShardCollection, read_collection  # noqa: E402
from reelseek.training.shards.order import ShardOrder  # noqa: E402
from reelseek.training.shards.pairs import LoadPlan, ShardPairs  # noqa: E402
from reelseek.training.shards.skipped import SkippedSamples  # noqa: E402
from reelseek.training.shards.worker import SampleRequest, SampleSettings, load_sample  # noqa: E402
from reelseek.training.texts import tokenize  # noqa: E402
from reelseek.training.trainer import Trainer  # noqa: E402
from reelseek.vision import (  # noqa: E402
    UniformSampler,
    WorkerLimits,
    choose_device,
    choose_precision,
    load_model,
    start_decode_server,
)
from reelseek.vision.cores import num_cores  # noqa: E402

WIDTH, HEIGHT, FPS = 640, 480, 25
OPTIMIZER = OptimizerConfig(
    lr=5e-4,
    trunk_lr=5e-4,
    layer_decay=1.0,
    weight_decay=0.2,
    warmup_steps=0,
    max_grad_norm=1.0,
    wise_ft_alpha=0.0,
)


class InsideTheLoop(ShardPairs):
    """The same batches, loaded when the loop asks for them."""

    def load(
        self, indices: Iterator[list[tuple[int, int]]], *, num_workers: int
    ) -> Generator[Batch, None, None]:
        with tempfile.TemporaryDirectory() as scratch:
            for slots in indices:
                numbers = [self._order.sample(*slot) for slot in slots]
                samples = [
                    load_sample(
                        SampleRequest(self._collection.sample(number), step_seed(0, *slot)),
                        self._plan.settings,
                        Path(scratch),
                    )
                    for slot, number in zip(slots, numbers, strict=True)
                ]
                tokens = self._tokenize([sample.caption for sample in samples])
                yield collate(
                    [
                        (sample.frames, text, number, number)
                        for sample, text, number in zip(samples, tokens, numbers, strict=True)
                    ]
                )


def write_shards(folder: Path, *, num_shards: int, shard_samples: int) -> None:
    random = np.random.default_rng(0)
    for shard in range(num_shards):
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as tar:
            for index in range(shard_samples):
                small = random.integers(0, 256, (24, 32, 3), np.uint8)
                picture = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
                files = [(f"{index:06d}.txt", f"texture {index} of shard {shard}".encode())]
                if index % 8:
                    file = io.BytesIO()
                    picture.save(file, "jpeg", quality=90)
                    files.append((f"{index:06d}.jpg", file.getvalue()))
                else:
                    files.append((f"{index:06d}.mp4", _video(picture)))
                for name, content in files:
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))


def _video(picture: Image.Image) -> bytes:
    """Two seconds in which the picture moves to the left."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        pixels = np.asarray(picture)
        for number in range(2 * FPS):
            moved = np.ascontiguousarray(np.roll(pixels, -4 * number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def run(
    options: dict[str, str], shards: ShardCollection, folder: Path, *, beside: bool
) -> dict[str, float]:
    """Trains for some steps; returns the fraction of waiting and the samples a second."""
    device = choose_device(options["device"])
    model = load_model(load_model_config(options["model"]).spec(), new_weights_seed=0)
    network = Network(
        model, image=TowerPlan("all"), text=TowerPlan("all"), pooling=model.pooling
    ).to(device)
    batch_size, steps = int(options["batch_size"]), int(options["steps"])
    order = ShardOrder(shards.sizes, batch_size=batch_size, seed=0, shards_per_group=16)
    plan = LoadPlan(
        SampleSettings(
            UniformSampler(4), model.preprocessing, ("decord", "pyav"), min_crop_area=0.9
        ),
        num_workers=int(options["workers"]) or num_cores(),
        limits=WorkerLimits(),
        seed=0,
    )
    processes = Processes(0, 1, device)
    skipped = SkippedSamples(
        folder / "skipped.tsv", [], max_failed_fraction=0.0, processes=processes
    )

    def to_tokens(captions: Sequence[str]) -> torch.Tensor:
        return tokenize(captions, model)

    pairs = ShardPairs(shards, order, plan, skipped=skipped, tokenize=to_tokens)
    if not beside:
        pairs = InsideTheLoop(shards, order, plan, skipped=skipped, tokenize=to_tokens)
    trainer = Trainer(
        network,
        objective=MultiPositiveClipLoss(),
        optimizer=make_optimizer(network, OPTIMIZER),
        source=pairs,
        batches=order,
        loop=LoopConfig(
            epochs=-(-steps // len(order)),
            batch_size=batch_size,
            chunk_size=0,
            accumulate_steps=1,
            frames_per_video=0,
            feature_dropout=0.0,
            flip=False,
            compile=False,
            seed=0,
            eval_every=1,
            save_every_seconds=1e9,
        ),
        optimizer_config=OPTIMIZER,
        processes=processes,
        checkpoints=Checkpoints(folder / "checkpoints"),
        options={},
        num_workers=int(options["ahead"]),
        precision=choose_precision("auto", device) if device.type == "cuda" else torch.float32,
    )
    stop = StopRequest()

    class Watch(StepProgress):
        def step(self, record: dict) -> None:
            if record["step"] == steps:
                stop.signal_number = 15

    progress = Watch(num_steps=steps, show=False)
    started = time.perf_counter()
    with EventLog(None) as log:
        trainer.run(stop=stop, log=log, progress=progress)
    seconds = time.perf_counter() - started
    return {
        "data_wait_fraction": progress.wait_fraction,
        "samples_per_second": steps * batch_size / seconds,
    }


def main() -> None:
    options = parse_options(
        __doc__,
        model="clip_vit_b32",
        rounds="3",
        num_shards="20",
        shard_samples="64",
        batch_size="32",
        steps="10",
        workers="0",
        ahead="2",
        device="auto",
    )
    start_decode_server()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_shards(
            folder,
            num_shards=int(options["num_shards"]),
            shard_samples=int(options["shard_samples"]),
        )
        shards = read_collection(
            [str(folder)],
            cache_folder=folder / "tables",
            max_failed_fraction=0.0,
            stop=StopRequest(),
        )
        results: dict[str, list[dict[str, float]]] = {"beside": [], "inside": []}
        for _ in range(int(options["rounds"])):
            for name, runs in results.items():
                runs.append(run(options, shards, folder, beside=name == "beside"))
    report = {
        name: {
            figure: {
                "median": statistics.median(each[figure] for each in runs),
                "min": min(each[figure] for each in runs),
                "max": max(each[figure] for each in runs),
            }
            for figure in runs[0]
        }
        for name, runs in results.items()
    }
    print(json.dumps({"options": options, **report}))


if __name__ == "__main__":
    main()
