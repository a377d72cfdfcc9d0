"""Milliseconds a query costs in each text tower: PyTorch in float32, and OpenVINO.

    python benchmarks/query_encoding.py [models=mini,mini_fast,clip_vit_b32] [rounds=20]

One core, sentences of 8 to 20 tokens, alone and 16 at once, tokenizing included. What is measured
is processor time, which other programs on the machine change less than the time on the clock; the
ways of encoding take turns. Weights are random where they would have to be fetched: speed is that
of the architecture, and so is, roughly, the cosine to PyTorch's embeddings.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.model_speed import random_model  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from reelseek.text import CompiledTextEncoder, TextEncoder, Tokenizer  # noqa: E402
from reelseek.vision import DualEncoder  # noqa: E402
from reelseek.vision.models.names import MINI_FOLDERS  # noqa: E402
from reelseek.vision.models.openvino_text import compile_text_tower  # noqa: E402

QUERIES = (
    "a dog catches a frisbee in the park",
    "two women dance on a stage while people cheer",
    "a red car drives along the coast at sunset, seen from above",
    "a man explains how to repair a bicycle",
    "somebody pours coffee into a cup",
    "a rocket starts and leaves a trail of smoke",
    "children play football on a meadow in front of a school",
    "a cat sleeps",
)
Encode = Callable[[list[str]], torch.Tensor | np.ndarray]


def load(name: str) -> DualEncoder:
    """A preset, with random weights unless it needs no hub."""
    torch.manual_seed(0)
    model = random_model(name)
    if name in MINI_FOLDERS:
        return model
    import open_clip

    return replace(
        model,
        tokenize=open_clip.get_tokenizer(model.spec.name),
        context_length=model.clip.context_length,
    )


def encoders_of(model: DualEncoder) -> dict[str, Encode]:
    """The ways to encode sentences with a model, by name."""
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    encoders: dict[str, Encode] = {"torch float32": TextEncoder(model.clip, tokenizer).encode}
    for precision in ("f32", "bf16", "u8"):
        tower = compile_text_tower(model, precision=precision)
        if tower is not None:
            encoders[f"OpenVINO {precision}"] = CompiledTextEncoder(tower, tokenizer).encode
    return encoders


def processor_ms(encode: Encode, queries: list[str]) -> float:
    """Milliseconds of processor time for a query."""
    started = time.process_time()
    encode(queries)
    return (time.process_time() - started) * 1000 / len(queries)


def main() -> None:
    options = parse_options(__doc__, models="mini,mini_fast,clip_vit_b32", rounds="20")
    torch.set_num_threads(1)
    for name in options["models"].split(","):
        encoders = encoders_of(load(name))
        expected = torch.as_tensor(encoders["torch float32"](list(QUERIES)))
        batch = list(QUERIES) * 2
        times: dict[str, tuple[list[float], list[float]]] = {key: ([], []) for key in encoders}
        for encode in encoders.values():  # kernels are chosen
            for query in (*([each] for each in QUERIES), batch):
                encode(query)
        for i in range(int(options["rounds"])):
            for key, encode in encoders.items():
                times[key][0].append(processor_ms(encode, [QUERIES[i % len(QUERIES)]]))
                times[key][1].append(processor_ms(encode, batch))
        for key, encode in encoders.items():
            cosine = F.cosine_similarity(torch.as_tensor(encode(list(QUERIES))), expected)
            alone, together = (statistics.median(each) for each in times[key])
            print(
                f"{name:<13} {key:<17} {alone:6.1f} ms a query alone ({min(times[key][0]):.1f}-"
                f"{max(times[key][0]):.1f}), {together:6.1f} of 16 at once, cosine "
                f"{float(cosine.min()):.5f} at least"
            )


if __name__ == "__main__":
    main()
