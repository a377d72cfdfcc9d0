"""Indexing throughput beside the plain loop that people write today, in the same run.

    python benchmarks/index_throughput.py videos=PATH [rounds=5] [num_videos=60] [model=mini]

The plain loop: decord in this process, frame by frame through the model's own PIL transform, one
video at a time, float32. Both see the same uniform frames; this project's pipeline also with each
frame kept on disk as soon as it is encoded, as an index is made. All are interleaved, and medians
with their spread are printed, with what one core needs for decoding alone (resizing included) and
for encoding alone, each by this project's own code: their sum over what all cores had time for is
the share of the machine that was used. What happens once, before the first frame, is timed apart.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import VideoItem, collect_videos  # noqa: E402
from reelseek.indexing.pipeline import encode_videos  # noqa: E402
from reelseek.indexing.store.unfinished import UnfinishedVideo, UnfinishedVideos  # noqa: E402
from reelseek.indexing.store.videos import FileSignature  # noqa: E402
from reelseek.vision import (  # noqa: E402
    DecodePool,
    DualEncoder,
    FileContent,
    FrameEncoder,
    FrameSettings,
    UniformSampler,
    iter_frames,
    mean_pool,
    start_decode_server,
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
        num_frames = min(NUM_FRAMES, len(reader))
        indices = [int((i + 0.5) * len(reader) / num_frames) for i in range(num_frames)]
        batch = reader.get_batch(indices).asnumpy()
        frames = torch.stack([transform(Image.fromarray(frame)) for frame in batch])
        with torch.no_grad():
            features = model.clip.encode_image(frames, normalize=True)
        embeddings.append(mean_pool(features))
    return torch.stack(embeddings)


def this_pipeline(items: list[VideoItem], encoder: FrameEncoder, pool: DecodePool) -> torch.Tensor:
    videos = ((i, item.path) for i, item in enumerate(items))
    encoded = {v.tag: v.embeddings for v in encode_videos(videos, encoder=encoder, pool=pool)}
    return torch.stack([mean_pool(encoded[i]) for i in range(len(items))])


def with_frames_kept(
    items: list[VideoItem], encoder: FrameEncoder, pool: DecodePool
) -> torch.Tensor:
    """As an index is made: each file is read for its hash, and each frame kept once encoded."""
    with TemporaryDirectory() as folder:
        unfinished = UnfinishedVideos(
            Path(folder, "unfinished"), settings="{}", embedding_dim=encoder.embedding_dim
        )

        def admit(tag: int, content: FileContent) -> UnfinishedVideo:
            # Copies have one content: the tag tells them apart.
            return unfinished.open(FileSignature(0, 0, f"{tag:08d}{content.sha256}"))

        videos = ((i, item.path) for i, item in enumerate(items))
        encoded = {}
        for video in encode_videos(videos, encoder=encoder, pool=pool, admit=admit):
            encoded[video.tag] = video.embeddings
        unfinished.close()
    return torch.stack([mean_pool(encoded[i]) for i in range(len(items))])


def decode_alone(items: list[VideoItem], settings: FrameSettings) -> torch.Tensor:
    chunks = [frames.pixels for item in items for frames in iter_frames(item.path, settings)]
    return torch.cat(chunks)


def on_one_core(task: Callable[[], torch.Tensor]) -> torch.Tensor:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return task()
    finally:
        torch.set_num_threads(threads)


def timed(task: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.perf_counter()
    result = task()
    return time.perf_counter() - started, result


def main() -> None:
    options = parse_options(__doc__, videos=None, rounds="5", num_videos="60", model="mini")
    rounds = int(options["rounds"])
    model_name = options["model"]
    items = collect_videos(options["videos"])[: int(options["num_videos"])]

    once = {}
    started = time.perf_counter()
    start_decode_server()
    model = random_model(model_name)
    once["load model"] = time.perf_counter() - started
    started = time.perf_counter()
    encoder = FrameEncoder(model, compiled=True)
    once[f"prepare {encoder.engine}"] = time.perf_counter() - started
    settings = FrameSettings(UniformSampler(NUM_FRAMES), encoder.preprocessing)
    started = time.perf_counter()
    pool = DecodePool(settings)
    this_pipeline(items[:1], encoder, pool)
    once["start workers"] = time.perf_counter() - started

    num_cores = torch.get_num_threads()
    torch.set_num_threads(1)
    one_stream = FrameEncoder(model, compiled=True)
    torch.set_num_threads(num_cores)
    pixels = decode_alone(items, settings)
    # Kernels are chosen at the first call, and a precision after the first frames.
    for each in (encoder, one_stream):
        each.encode(pixels[:80])
    tasks: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: plain_loop(items, model),
        "this": lambda: this_pipeline(items, encoder, pool),
        "this, frames kept": lambda: with_frames_kept(items, encoder, pool),
        "decode, 1 core": lambda: on_one_core(lambda: decode_alone(items, settings)),
        "encode, 1 core": lambda: one_stream.encode(pixels),
        "encode, all cores": lambda: encoder.encode(pixels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    results: dict[str, torch.Tensor] = {}
    for _ in range(rounds):
        for name, task in tasks.items():
            taken, results[name] = timed(task)
            seconds[name].append(taken)
    pool.close()
    agreement = (results["plain"] * results["this"]).sum(dim=-1).mean()

    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(items)} videos, {len(pixels)} frames, {rounds} rounds, {num_cores} cores, "
          f"{encoder.device}, {encoder.engine}, {encoder.precision}")  # fmt: skip
    for name, values in seconds.items():
        print(
            f"{name:>18}: {len(items) / median[name]:6.2f} videos/s "
            f"{len(pixels) / median[name]:7.1f} frames/s   (seconds: "
            f"median {median[name]:.2f}, {min(values):.2f}-{max(values):.2f})"
        )
    print("once: " + ", ".join(f"{name} {value:.1f} s" for name, value in once.items()))
    ratios = [p / t for p, t in zip(seconds["plain"], seconds["this"], strict=True)]
    kept = [k / t for k, t in zip(seconds["this, frames kept"], seconds["this"], strict=True)]
    work = median["decode, 1 core"] + median["encode, 1 core"]
    work_together = median["decode, 1 core"] + num_cores * median["encode, all cores"]
    summary = {
        "model": model_name,
        "videos_per_second": round(len(items) / median["this"], 2),
        "frames_per_second": round(len(pixels) / median["this"], 1),
        "ratio_to_plain_loop": round(statistics.median(ratios), 2),
        "ratio_spread": [round(min(ratios), 2), round(max(ratios), 2)],
        "time_with_frames_kept": round(statistics.median(kept), 3),
        "time_with_frames_kept_spread": [round(min(kept), 3), round(max(kept), 3)],
        "share_of_cores": round(work / (num_cores * median["this"]), 3),
        "share_of_cores_encoding_together": round(work_together / (num_cores * median["this"]), 3),
        "mean_cosine_to_plain_loop": round(float(agreement), 4),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
