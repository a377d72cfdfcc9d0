"""Frames a second of each model preset on this machine, in the precision that reelseek chooses.

    python benchmarks/model_speed.py [rounds=5] [models=mini,clip_vit_b32,...] [frames=16]
                                     [device=auto] [precision=auto]

Only the architecture matters for speed, so the weights are random where they would have to be
fetched. Models are interleaved; medians and spread are printed. A GPU takes 256 frames at once:
give it `frames=2048`.
"""

import statistics
import sys
import time
from pathlib import Path

import open_clip
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.command_line import load_model_config, preset_names  # noqa: E402
from reelseek.vision import DualEncoder, FrameEncoder, Preprocessing, load_model  # noqa: E402
from reelseek.vision.models.names import MINI_FOLDERS  # noqa: E402


def random_model(name: str) -> DualEncoder:
    """A preset's architecture; its text tower is left out of what is timed."""
    spec = load_model_config(name).spec()
    if name in MINI_FOLDERS:
        return load_model(spec)
    clip = open_clip.create_model(spec.name, pretrained_text=False).eval()
    return DualEncoder(
        spec=spec,
        clip=clip,
        tokenize=lambda sentences, context_length=1: torch.zeros(len(sentences), context_length),
        context_length=1,
        embedding_dim=0,
        preprocessing=Preprocessing.from_open_clip(clip.visual.preprocess_cfg),
        fingerprint="",
    )


def main() -> None:
    # These have the image towers of clip_vit_b32 and mini; the hub describes xlmr's text tower.
    same = ("xlmr_vit_b32", "mini_fast")
    default = [name for name in preset_names("model") if name not in same]
    options = parse_options(
        __doc__,
        rounds="5",
        models=",".join(default),
        frames="16",
        device="auto",
        precision="auto",
    )
    rounds, num_frames = int(options["rounds"]), int(options["frames"])
    names = options["models"].split(",")

    encoders = {
        name: FrameEncoder(
            random_model(name), device=options["device"], precision=options["precision"]
        )
        for name in names
    }
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, encoder in encoders.items():
            pixels = torch.randint(
                0, 256, (num_frames, 3, *encoder.preprocessing.size), dtype=torch.uint8
            )
            started = time.perf_counter()
            encoder.encode(pixels)
            speeds[name].append(num_frames / (time.perf_counter() - started))
    for name, values in speeds.items():
        measured = values[1:]  # the first round chooses kernels
        print(
            f"{name:<14} {statistics.median(measured):7.1f} frames/s "
            f"({min(measured):.1f}-{max(measured):.1f}), {encoders[name].dtype}"
        )


if __name__ == "__main__":
    main()
