"""A training step of ViT-B/32, all layers, on a GPU: the same as on the processor, and how fast.

    python benchmarks/cuda_step.py [pairs=128] [frames=12] [rounds=8]

Weights, frames and captions are random. Prints the loss of a small batch on both, the greatest
relative difference of a parameter's gradient, and the median of steps in float32 and bfloat16.
"""

import copy
import statistics
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.training.batches import Batch  # noqa: E402
from reelseek.training.network import Network, TowerPlan  # noqa: E402
from reelseek.training.objective import MultiPositiveClipLoss  # noqa: E402
from reelseek.vision.models.pooling import MeanPooling  # noqa: E402

END_OF_TEXT = 49407  # of CLIP's tokens
LOSS = MultiPositiveClipLoss()


def random_batch(num_pairs: int, num_frames: int, device: str) -> Batch:
    random = torch.Generator().manual_seed(1)
    text = torch.randint(1, 49000, (num_pairs, 77), generator=random)
    text[:, 10], text[:, 11:] = END_OF_TEXT, 0
    shape = (num_pairs, num_frames, 3, 224, 224)
    numbers = torch.arange(num_pairs)
    batch = Batch(
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=random),
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


def main() -> None:
    options = parse_options(__doc__, pairs="128", frames="12", rounds="8")
    num_pairs, num_frames = int(options["pairs"]), int(options["frames"])
    model = replace(random_model("clip_vit_b32"), embedding_dim=512, context_length=77)
    networks = {
        device: Network(
            copy.deepcopy(model),
            image=TowerPlan("all"),
            text=TowerPlan("all"),
            pooling=MeanPooling(),
        ).to(device)
        for device in ("cpu", "cuda")
    }
    for device, network in networks.items():
        loss = step(network, random_batch(4, 3, device), torch.float32)
        print(f"{device}: loss {loss:.5f} of 4 pairs in float32")
    pairs = zip(networks["cpu"].parameters(), networks["cuda"].parameters(), strict=True)
    worst = max(
        float((ours.grad - theirs.grad.cpu()).norm() / (ours.grad.norm() + 1e-6))
        for ours, theirs in pairs
        if ours.grad is not None and theirs.grad is not None
    )
    print(f"gradients differ by {worst:.1e} at most")
    network, batch = networks["cuda"], random_batch(num_pairs, num_frames, "cuda")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    for dtype in (torch.float32, torch.bfloat16):
        torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(int(options["rounds"])):
            started = time.perf_counter()
            step(network, batch, dtype)
            optimizer.step()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        seconds = statistics.median(times[2:])  # the first choose kernels
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(
            f"{dtype}: {1e3 * seconds:.0f} ms a step, {num_pairs * num_frames / seconds:.0f} "
            f"frames/s, {memory:.1f} GiB at most"
        )


if __name__ == "__main__":
    main()
