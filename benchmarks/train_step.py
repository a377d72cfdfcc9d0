"""Training the heads on cached features beside the loop that decodes every epoch, in the same run.

    python benchmarks/train_step.py data=FILE.jsonl [rounds=5] [num_videos=64] [batch_size=32]
                                    [epochs=10] [model=mini]

The loop that people write: a DataLoader whose workers decode each video again in every epoch
(decord, the model's own PIL transform, 12 uniform frames), the frozen trunk run again on every
frame in float32, and the same heads trained with open_clip's own loss. The two are interleaved, and
medians with their spread are printed in samples (pairs of a video and a caption) a second. What the
cache takes to make is timed apart.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.train_schema import LoopConfig, OptimizerConfig  # noqa: E402
from reelseek.indexing import StopRequest, VideoItem, collect_videos  # noqa: E402
from reelseek.training.batches import CaptionedPairs  # noqa: E402
from reelseek.training.checkpoints import Checkpoints  # noqa: E402
from reelseek.training.curves import EventLog  # noqa: E402
from reelseek.training.frame_cache import FrameCache  # noqa: E402
from reelseek.training.network import Network, TowerPlan  # noqa: E402
from reelseek.training.objective import MultiPositiveClipLoss  # noqa: E402
from reelseek.training.optimizer import make_optimizer  # noqa: E402
from reelseek.training.order import EpochBatches  # noqa: E402
from reelseek.training.processes import Processes  # noqa: E402
from reelseek.training.progress import StepProgress  # noqa: E402
from reelseek.training.texts import TextFeatures  # noqa: E402
from reelseek.training.trainer import Trainer  # noqa: E402
from reelseek.vision import (  # noqa: E402
    DecodePool,
    DualEncoder,
    FrameEncoder,
    FrameSettings,
    UniformSampler,
    start_decode_server,
)

NUM_FRAMES = 12  # of each video
CPU = torch.device("cpu")
OPTIMIZER = OptimizerConfig(
    lr=1e-4,
    trunk_lr=1e-5,
    layer_decay=1.0,
    weight_decay=0.2,
    warmup_steps=0,
    max_grad_norm=1.0,
    wise_ft_alpha=0.0,
)


class DecodedEveryTime(Dataset):
    """A video's frames, decoded now, and its first caption."""

    def __init__(self, items: list[VideoItem], model: DualEncoder) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self._items = items
        self._transform = image_transform_v2(
            PreprocessCfg(**model.clip.visual.preprocess_cfg), is_train=False
        )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, str]:
        import decord
        from PIL import Image

        reader = decord.VideoReader(str(self._items[number].path), num_threads=1)
        indices = [int((i + 0.5) * len(reader) / NUM_FRAMES) for i in range(NUM_FRAMES)]
        frames = [Image.fromarray(frame) for frame in reader.get_batch(indices).asnumpy()]
        return torch.stack([self._transform(frame) for frame in frames]), self._items[
            number
        ].captions[0]


def plain_epoch(loader: DataLoader, model: DualEncoder, optimizer: torch.optim.Optimizer) -> None:
    """One epoch of what one writes in an afternoon."""
    from open_clip.loss import ClipLoss

    clip, loss = model.clip, ClipLoss()
    for frames, captions in loader:
        features = clip.encode_image(frames.flatten(0, 1), normalize=True)
        videos = torch.nn.functional.normalize(
            features.unflatten(0, frames.shape[:2]).mean(dim=1), dim=-1
        )
        texts = clip.encode_text(model.tokenize(list(captions)), normalize=True)
        optimizer.zero_grad()
        loss(videos, texts, clip.logit_scale.exp()).backward()
        optimizer.step()


def make_trainer(
    network: Network, dataset: CaptionedPairs, *, batch_size: int, epochs: int, folder: Path
) -> Trainer:
    return Trainer(
        network,
        objective=MultiPositiveClipLoss(),
        optimizer=make_optimizer(network, OPTIMIZER),
        source=dataset,
        batches=EpochBatches(len(dataset), batch_size=batch_size, seed=0),
        loop=LoopConfig(
            epochs=epochs,
            batch_size=batch_size,
            chunk_size=0,
            accumulate_steps=1,
            frames_per_video=0,
            feature_dropout=0.0,
            flip=False,
            compile=False,
            seed=0,
            eval_every=1,
            save_every_seconds=60.0,
        ),
        optimizer_config=OPTIMIZER,
        processes=Processes(0, 1, CPU),
        checkpoints=Checkpoints(folder),
        options={},
    )


def main() -> None:
    options = parse_options(
        __doc__, data=None, rounds="5", num_videos="64", batch_size="32", epochs="10", model="mini"
    )
    rounds, epochs = int(options["rounds"]), int(options["epochs"])
    batch_size = int(options["batch_size"])
    items = collect_videos(options["data"])[: int(options["num_videos"])]
    start_decode_server()
    model, peer = random_model(options["model"]), random_model(options["model"])
    network = Network(
        model, image=TowerPlan("heads"), text=TowerPlan("heads"), pooling=model.pooling
    )
    peers_network = Network(
        peer, image=TowerPlan("heads"), text=TowerPlan("heads"), pooling=peer.pooling
    )
    plain_optimizer = make_optimizer(peers_network, OPTIMIZER)
    loader = DataLoader(
        DecodedEveryTime(items, peer), batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    samples = len(items) // batch_size * batch_size
    sampler = UniformSampler(NUM_FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        encoder = FrameEncoder(model, compiled=True, trunk=network.image.trunk)
        cache = FrameCache(Path(folder), {"benchmark": "train_step"})
        with DecodePool(FrameSettings(sampler, model.preprocessing)) as pool:
            filled = cache.fill(items, encoder=encoder, pool=pool, stop=StopRequest())
        videos = list(cache.videos(filled.contents).values())
        sentences = [item.captions[0] for item in items if item.key in filled.contents]
        features = TextFeatures(model, network.text.trunk, Path(folder), device=CPU)
        features.fill(sentences, stop=StopRequest(), show=False)
        caching = time.perf_counter() - started
        dataset = CaptionedPairs(
            videos,
            [[sentence] for sentence in sentences],
            text=features(sentences),
            sentence_ids={sentence: number for number, sentence in enumerate(sentences)},
        )
        rates: dict[str, list[float]] = {"decodes every epoch": [], "cached": []}
        waits = []
        for _ in range(rounds):
            started = time.perf_counter()
            plain_epoch(loader, peer, plain_optimizer)
            rates["decodes every epoch"].append(samples / (time.perf_counter() - started))
            trainer = make_trainer(
                network, dataset, batch_size=batch_size, epochs=epochs, folder=Path(folder, "run")
            )
            progress = StepProgress(num_steps=trainer.num_steps, show=False)
            started = time.perf_counter()
            trainer.run(stop=StopRequest(), log=EventLog(None), progress=progress)
            rates["cached"].append(trainer.num_steps * batch_size / (time.perf_counter() - started))
            waits.append(progress.wait_fraction)
    print(
        f"{len(items)} videos, batch {batch_size}, {rounds} rounds, {torch.get_num_threads()} cores"
    )
    for name, values in rates.items():
        print(
            f"{name:>20}: median {statistics.median(values):8.1f} samples/s "
            f"({min(values):.1f}-{max(values):.1f})"
        )
    pairs = zip(rates["cached"], rates["decodes every epoch"], strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    print(
        json.dumps(
            {
                "ratio": round(statistics.median(ratios), 1),
                "ratio_spread": [round(min(ratios), 1), round(max(ratios), 1)],
                "data_wait_share": round(statistics.median(waits), 4),
                "caching_seconds": round(caching, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
