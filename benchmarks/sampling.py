"""What each way of sampling costs and gives: frames encoded, time, retrieval quality.

    python benchmarks/sampling.py data=B.jsonl [num_videos=513] [model=mini]

Each line is one pass over the captioned videos by the pipeline that indexes, from the first file to
the last embedding. Text-to-video retrieval over the mean of each video's frames; a tie counts
against the system.
"""

import logging
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.command_line import load_model_config  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402
from reelseek.indexing.pipeline import encode_videos  # noqa: E402
from reelseek.ranking.metrics import retrieval_metrics  # noqa: E402
from reelseek.text import TextEncoder, Tokenizer  # noqa: E402
from reelseek.vision import (  # noqa: E402
    DecodePool,
    FrameEncoder,
    FrameSettings,
    IntervalSampler,
    KeyFrameSampler,
    Sampler,
    ShotSampler,
    UniformSampler,
    load_model,
    mean_pool,
)

WAYS: dict[str, tuple[Sampler, float]] = {
    "uniform, 4": (UniformSampler(4), 0),
    "uniform, 12": (UniformSampler(12), 0),
    "uniform, 12, dedup_threshold=30": (UniformSampler(12), 30),
    "every second": (IntervalSampler(1.0, min_frames=8), 0),
    "every second, dedup_threshold=10": (IntervalSampler(1.0, min_frames=8), 10),
    "every second, dedup_threshold=30": (IntervalSampler(1.0, min_frames=8), 30),
    "every second, dedup_threshold=60": (IntervalSampler(1.0, min_frames=8), 60),
    "key frames": (KeyFrameSampler(), 0),
    "shots, 1 frame each": (ShotSampler(frames_per_shot=1), 0),
    "shots, 3 frames each": (ShotSampler(frames_per_shot=3), 0),
}


def main() -> None:
    options = parse_options(__doc__, data=None, num_videos="513", model="mini")
    items = collect_videos(options["data"])[: int(options["num_videos"])]
    model_name = options["model"]
    logging.disable(logging.WARNING)

    model = load_model(load_model_config(model_name).spec())
    encoder = FrameEncoder(model, compiled=True)
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    text_encoder = TextEncoder(model.clip, tokenizer, device=encoder.device)
    captions = [caption for item in items for caption in item.metadata["captions"]]
    owner = torch.tensor([i for i, item in enumerate(items) for _ in item.metadata["captions"]])
    queries = text_encoder.encode(captions)

    print(f"{len(items)} videos, {model_name}, {encoder.engine}, {encoder.dtype}")
    print(f"{'sampling':<32}  encoded   sampled  seconds    R@1    R@5   R@10    MdR")
    for name, (sampler, dedup_threshold) in WAYS.items():
        settings = FrameSettings(sampler, encoder.preprocessing, dedup_threshold=dedup_threshold)
        with DecodePool(settings) as pool:
            for _ in pool.decode([(0, items[0].path)]):  # the workers start
                pass
            started = time.perf_counter()
            videos = ((i, item.path) for i, item in enumerate(items))
            encoded = {v.tag: v for v in encode_videos(videos, encoder=encoder, pool=pool)}
            seconds = time.perf_counter() - started
        gallery = torch.stack([mean_pool(encoded[i].embeddings) for i in range(len(items))])
        metrics = retrieval_metrics((queries @ gallery.T).numpy(), owner.numpy())["t2v"]
        num_encoded = sum(video.num_encoded for video in encoded.values())
        num_sampled = sum(len(video.embeddings) for video in encoded.values())
        print(
            f"{name:<32} {num_encoded:8} {num_sampled:9} {seconds:8.1f} {metrics['R@1']:6.2f} "
            f"{metrics['R@5']:6.2f} {metrics['R@10']:6.2f} {metrics['MdR']:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
