"""Encoding and training of ViT-B/32 on a GPU: the same as on the processor, and how fast.

    python benchmarks/gpu.py [pairs=128] [frames=12] [encoded=2048] [compared=64] [rounds=8]
                              [device=cuda]

Weights, frames and captions are random. Compares embeddings and a training step of all layers with
those of the processor, and times both in float32 and bfloat16. The last line is JSON: the least
cosine of embeddings with the processor's in float32, losses of a small batch, the greatest relative
difference of a parameter's gradient, and medians. Exit code 1 if a cosine is below 0.999 or a
gradient differs by 1 %. `device=cpu` tries the script without a GPU.
"""

import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import open_clip
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.training.batches import Batch  # noqa: E402
from reelseek.training.network import Network, TowerPlan  # noqa: E402
from reelseek.training.objective import MultiPositiveClipLoss  # noqa: E402
from reelseek.vision.models.dual_encoder import DualEncoder  # noqa: E402
from reelseek.vision.models.encoding import FrameEncoder  # noqa: E402
from reelseek.vision.models.pooling import MeanPooling  # noqa: E402
from reelseek.vision.models.preprocessing import Preprocessing  # noqa: E402
from reelseek.vision.models.spec import ModelSpec  # noqa: E402

END_OF_TEXT = 49407  # of CLIP's tokens
LOSS = MultiPositiveClipLoss()
MIN_COSINE, MAX_GRADIENT_DIFFERENCE = 0.999, 0.01


def random_model() -> DualEncoder:
    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-32").eval()
    return DualEncoder(
        spec=ModelSpec("ViT-B-32"),
        clip=clip,
        tokenize=open_clip.get_tokenizer("ViT-B-32"),
        context_length=77,
        embedding_dim=512,
        preprocessing=Preprocessing.from_open_clip(clip.visual.preprocess_cfg),
    )


def random_frames(*shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (*shape, 3, 224, 224), dtype=torch.uint8, generator=random)


def random_batch(num_pairs: int, num_frames: int, device: str) -> Batch:
    random = torch.Generator().manual_seed(1)
    text = torch.randint(1, 49000, (num_pairs, 77), generator=random)
    text[:, 10], text[:, 11:] = END_OF_TEXT, 0
    numbers = torch.arange(num_pairs)
    batch = Batch(
        random_frames(num_pairs, num_frames),
        torch.full((num_pairs,), num_frames),
        text,
        numbers,
        numbers,
    )
    return replace(
        batch, **{each.name: getattr(batch, each.name).to(device) for each in fields(batch)}
    )


def step(network: Network, batch: Batch, dtype: torch.dtype) -> float:
    network.zero_grad(set_to_none=True)
    kind = batch.frames.device.type
    with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
        videos, texts, scale, bias = network(batch)
    loss = LOSS(videos, texts, scale, bias, batch.ids)
    loss.backward()
    return loss.item()


def median_seconds(task: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:] or times)  # the first choose kernels


def measure_encoding(
    model: DualEncoder, device: str, *, num_compared: int, num_frames: int, rounds: int
) -> dict:
    compared, timed = random_frames(num_compared), random_frames(num_frames)
    expected = FrameEncoder(model, device="cpu", precision="fp32").encode(compared)
    results: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        encoder = FrameEncoder(copy.deepcopy(model), device=device, precision=precision)
        cosine = float((encoder.encode(compared) * expected).sum(dim=-1).min())
        seconds = median_seconds(lambda encoder=encoder: encoder.encode(timed), rounds)  # type: ignore[misc]
        results[f"{precision}_min_cosine"] = round(cosine, 6)
        results[f"{precision}_frames_per_second"] = round(num_frames / seconds, 1)
        print(f"encoding in {precision}: cosine {cosine:.6f}, {num_frames / seconds:.0f} frames/s")
    return results


def measure_training(
    model: DualEncoder, device: str, *, num_pairs: int, num_frames: int, rounds: int
) -> dict:
    plan = TowerPlan("all")
    networks = [
        Network(copy.deepcopy(model), image=plan, text=plan, pooling=MeanPooling()).to(each)
        for each in ("cpu", device)
    ]
    losses = [
        step(network, random_batch(4, 3, each), torch.float32)
        for network, each in zip(networks, ("cpu", device), strict=True)
    ]
    differences = [
        float((ours.grad - theirs.grad.cpu()).norm() / (ours.grad.norm() + 1e-6))
        for ours, theirs in zip(*(network.parameters() for network in networks), strict=True)
        if ours.grad is not None and theirs.grad is not None
    ]
    results = {
        "loss_cpu": round(losses[0], 6),
        f"loss_{device}": round(losses[1], 6),
        "max_gradient_difference": max(differences),
    }
    print(f"losses of 4 pairs {losses}, gradients differ by {max(differences):.1e} at most")
    network, batch = networks[1], random_batch(num_pairs, num_frames, device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):

        def train(dtype: torch.dtype = dtype) -> None:
            step(network, batch, dtype)
            optimizer.step()

        seconds = median_seconds(train, rounds)
        results[f"{name}_step_seconds"] = round(seconds, 4)
        results[f"{name}_frames_per_second"] = round(num_pairs * num_frames / seconds, 1)
        print(f"a training step in {name}: {1e3 * seconds:.0f} ms")
    return results


def main() -> None:
    options = parse_options(
        __doc__,
        pairs="128",
        frames="12",
        encoded="2048",
        compared="64",
        rounds="8",
        device="cuda",
    )
    device, rounds = options["device"], int(options["rounds"])
    model = random_model()
    encoding = measure_encoding(
        model,
        device,
        num_compared=int(options["compared"]),
        num_frames=int(options["encoded"]),
        rounds=rounds,
    )
    training = measure_training(
        model,
        device,
        num_pairs=int(options["pairs"]),
        num_frames=int(options["frames"]),
        rounds=rounds,
    )
    agrees = (
        min(encoding["fp32_min_cosine"], encoding["bf16_min_cosine"]) >= MIN_COSINE
        and training["max_gradient_difference"] <= MAX_GRADIENT_DIFFERENCE
    )
    result = {"device": device, "torch": torch.__version__, "agrees": agrees}
    if device.startswith("cuda"):
        result["device"] = torch.cuda.get_device_name()
        result["max_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    print(json.dumps(result | {"encoding": encoding, "training": training}))
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
