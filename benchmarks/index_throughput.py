"""Indexing throughput beside the plain loop that people write today, in the same run.

    python benchmarks/index_throughput.py videos=PATH [rounds=5] [num_videos=60] [model=mini]

The plain loop: decord in this process, frame by frame through the model's own PIL transform, one
video at a time, float32. Both see the same uniform frames. The two are interleaved, and medians
with their spread are printed, with two bounds: decoding alone (resizing included) and encoding
alone, each by this project's own code on the same machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from configs.command_line import load_model_config  # noqa: E402
from indexing import VideoItem, collect_videos  # noqa: E402
from indexing.pipeline import encode_videos  # noqa: E402
from vision import (  # noqa: E402
    DualEncoder,
    FrameEncoder,
    UniformSampler,
    iter_frames,
    load_model,
    mean_pool,
)

NUM_FRAMES = 12  # of each video


def plain_loop(items: list[VideoItem], model: DualEncoder) -> torch.Tensor:
    """What one writes in an afternoon."""
    import decord
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    transform = image_transform_v2(
        PreprocessCfg(**model.clip.visual.preprocess_cfg), is_train=False
    )
    embeddings = []
    for item in items:
        reader = decord.VideoReader(str(item.path))
        wanted = min(NUM_FRAMES, len(reader))
        indices = [int((i + 0.5) * len(reader) / wanted) for i in range(wanted)]
        batch = reader.get_batch(indices).asnumpy()
        frames = torch.stack([transform(Image.fromarray(frame)) for frame in batch])
        with torch.no_grad():
            features = model.clip.encode_image(frames, normalize=True)
        embeddings.append(mean_pool(features))
    return torch.stack(embeddings)


def this_pipeline(items: list[VideoItem], encoder: FrameEncoder) -> torch.Tensor:
    embeddings = []
    sampler = UniformSampler(NUM_FRAMES)
    videos = ((item, item.path) for item in items)
    for video in encode_videos(videos, encoder=encoder, sampler=sampler):
        embeddings.append(mean_pool(video.embeddings))
    return torch.stack(embeddings)


def decode_alone(items: list[VideoItem], encoder: FrameEncoder) -> torch.Tensor:
    sampler = UniformSampler(NUM_FRAMES)
    pixels = [
        frames.pixels
        for item in items
        for frames in iter_frames(item.path, sampler=sampler, preprocessing=encoder.preprocessing)
    ]
    return torch.cat(pixels)


def timed(task: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.perf_counter()
    result = task()
    return time.perf_counter() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("options", nargs="*", metavar="name=value")
    options = dict(option.split("=", 1) for option in parser.parse_args().options)
    rounds = int(options.pop("rounds", 5))
    num_videos = int(options.pop("num_videos", 60))
    model_name = options.pop("model", "mini")
    items = collect_videos(options.pop("videos"))[:num_videos]
    if options:
        parser.error(f"unknown: {', '.join(options)}")

    model = load_model(load_model_config(model_name).spec())
    plain_model = load_model(load_model_config(model_name).spec())
    encoder = FrameEncoder(model)
    pixels = decode_alone(items, encoder)
    encoder.encode(pixels[:16])  # kernels are chosen at the first call
    tasks: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: plain_loop(items, plain_model),
        "this": lambda: this_pipeline(items, encoder),
        "decode": lambda: decode_alone(items, encoder),
        "encode": lambda: encoder.encode(pixels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    results: dict[str, torch.Tensor] = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            taken, results[name] = timed(task)
            seconds[name].append(taken)
    agreement = (results["plain"] * results["this"]).sum(dim=-1).mean()

    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(items)} videos, {len(pixels)} frames, {rounds} rounds, {torch.get_num_threads()} "
          f"threads, {encoder.device}, {encoder.dtype}")  # fmt: skip
    for name, values in seconds.items():
        print(
            f"{name:>7}: {len(items) / median[name]:6.2f} videos/s "
            f"{len(pixels) / median[name]:7.1f} frames/s   (seconds: "
            f"median {median[name]:.2f}, {min(values):.2f}-{max(values):.2f})"
        )
    bound = max(median["decode"], median["encode"])
    summary = {
        "model": model_name,
        "videos_per_second": round(len(items) / median["this"], 2),
        "frames_per_second": round(len(pixels) / median["this"], 1),
        "ratio_to_plain_loop": round(median["plain"] / median["this"], 2),
        "share_of_slower_bound": round(bound / median["this"], 3),
        "mean_cosine_to_plain_loop": round(float(agreement), 4),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
