"""What a precision costs and gives: speed, cosine to float32 and retrieval, for each model preset.

    python benchmarks/precisions.py data=FILE.jsonl [models=mini,clip_vit_b32] [rounds=3]
                                    [num_videos=1000] [frames=12] [timed=64]

Encodes uniform frames of captioned videos as `python -m indexing` does, in float32 by PyTorch, and
in bfloat16 (float32 where the processor has no bfloat16) and int8 by OpenVINO. The first frames of
int8 are encoded again after its self-check. Weights are random where they would have to be fetched:
their retrieval is not measured. Speeds are medians of interleaved rounds over `timed` frames on all
cores. Prints a line for each precision and JSON at the end.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import VideoItem, collect_videos  # noqa: E402
from reelseek.vision import (  # noqa: E402
    DualEncoder,
    FrameEncoder,
    FrameSettings,
    UniformSampler,
    iter_frames,
    mean_pool,
)

PRECISIONS = ("fp32", "bf16", "int8")


def decode(items: list[VideoItem], settings: FrameSettings) -> list[torch.Tensor]:
    return [
        torch.cat([frames.pixels for frames in iter_frames(item.path, settings)]) for item in items
    ]


def recall(model: DualEncoder, items: list[VideoItem], videos: torch.Tensor) -> dict[str, float]:
    """Text-to-video recall in percent; a tie counts against the system."""
    captions = [(caption, number) for number, item in enumerate(items) for caption in item.captions]
    ranks = []
    for first in range(0, len(captions), 32):
        sentences, answers = zip(*captions[first : first + 32], strict=True)
        with torch.inference_mode():
            texts = model.clip.encode_text(model.tokenize(list(sentences)), normalize=True)
        similarity = texts @ videos.T
        of_answer = similarity[torch.arange(len(answers)), torch.tensor(answers)]
        ranks.append((similarity >= of_answer[:, None]).sum(dim=1))
    rank = torch.cat(ranks)
    return {f"R@{k}": round(100 * float((rank <= k).float().mean()), 1) for k in (1, 5, 10)}


def measure(name: str, items: list[VideoItem], options: dict[str, str]) -> list[dict]:
    model = random_model(name)
    settings = FrameSettings(UniformSampler(int(options["frames"])), model.preprocessing)
    clips = decode(items, settings)
    pixels = torch.cat(clips)
    encoders = {
        precision: FrameEncoder(model, device="cpu", precision=precision, compiled=True)
        for precision in PRECISIONS
    }
    encoders["int8"].encode(pixels[:80])  # passes its self-check, or not

    timed = pixels[: int(options["timed"])]
    speeds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(int(options["rounds"])):
        for precision, encoder in encoders.items():
            started = time.perf_counter()
            encoder.encode(timed)
            speeds[precision].append(len(timed) / (time.perf_counter() - started))

    rows = []
    reference = torch.empty(0)
    for precision, encoder in encoders.items():
        embeddings = encoder.encode(pixels)
        reference = embeddings if precision == "fp32" else reference
        cosines = F.cosine_similarity(embeddings, reference)
        row = {
            "model": name,
            "precision": precision,
            "used": encoder.precision,
            "engine": encoder.engine,
            "frames_per_second": round(statistics.median(speeds[precision]), 1),
            "spread": [round(min(speeds[precision]), 1), round(max(speeds[precision]), 1)],
            "mean_cosine": round(float(cosines.mean()), 4),
            "p5_cosine": round(float(cosines.quantile(0.05)), 4),
            "min_cosine": round(float(cosines.min()), 4),
        }
        if name == "mini":
            parts = embeddings.split([len(clip) for clip in clips])
            row |= recall(model, items, torch.stack([mean_pool(part) for part in parts]))
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows.append(row)
    return rows


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        models="mini,clip_vit_b32",
        rounds="3",
        num_videos="1000",
        frames="12",
        timed="64",
    )
    items = collect_videos(options["data"])[: int(options["num_videos"])]
    rows = [row for name in options["models"].split(",") for row in measure(name, items, options)]
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
