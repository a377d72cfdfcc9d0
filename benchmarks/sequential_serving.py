"""Milliseconds that the sequential model takes for one history.

    python benchmarks/sequential_serving.py [num_items=1000000] [num_networks=1]

Generates a catalogue, and untrained networks of the configured shape, whose time is that of trained
ones. Prints the median and the 99th percentile of embedding a history of 1 to 50 items in NumPy and
in PyTorch, and of finding 200 items by FAISS, with the recall against comparing every item. What is
measured is processor time on one core.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.configs.composition import compose  # noqa: E402
from reelseek.configs.sequential_schema import SequentialConfig, SequentialNetworkConfig  # noqa: E402
from reelseek.recommendation.nearest_items import NearestItems, make_cells, needs_cells  # noqa: E402
from reelseek.recommendation.sequential.fitting import export_network  # noqa: E402
from reelseek.recommendation.sequential.items import ItemEmbeddings  # noqa: E402
from reelseek.recommendation.sequential.model import SequentialModel  # noqa: E402
from reelseek.recommendation.sequential.network import SequentialNetwork  # noqa: E402

_REPEATS = 300
_NUM_CLUSTERS = 5_000  # items lie in groups, as learned ones do
_K = 200


def main() -> None:
    options = parse_options(__doc__, num_items="1000000", num_networks="1")
    num_items, num_networks = int(options["num_items"]), int(options["num_networks"])
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    config = compose(SequentialConfig, ["sequences=-", "output=-"]).network
    random = np.random.default_rng(0)
    networks = [_network(config, num_items, random) for _ in range(num_networks)]
    exported = [export_network(each) for each in networks]
    model = SequentialModel(exported, config.num_heads, [])
    histories = [random.integers(0, num_items, 1 + index % 50) for index in range(_REPEATS)]
    encoded = [model.history_vectors([history]) for history in histories]
    result = {
        "num_items": num_items,
        "num_networks": num_networks,
        "numpy_ms": _times(lambda index: model.history_vectors([histories[index]])),
        "torch_ms": _times(lambda index: _torch(networks, histories[index])),
    }
    vectors = model.item_vectors()
    nearest = NearestItems(vectors, make_cells(vectors) if needs_cells(len(vectors)) else None)
    result["faiss_ms"] = _times(lambda index: nearest.search(encoded[index], _K))
    every = np.concatenate(encoded) @ vectors.T
    exact = np.argpartition(-every, _K, axis=1)[:, :_K]
    _, found = nearest.search(np.concatenate(encoded), _K)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
    print(json.dumps(result | {f"recall@{_K}": round(float(np.mean(shared)) / _K, 4)}))


def _network(
    config: SequentialNetworkConfig, num_items: int, random: np.random.Generator
) -> SequentialNetwork:
    """Items around centres, as far from these as centres of learned ones are from each other."""
    items = ItemEmbeddings(torch.ones(num_items, dtype=torch.bool), config.dim)
    centres = random.standard_normal((_NUM_CLUSTERS, config.dim))
    own = random.standard_normal((num_items, config.dim), dtype=np.float32)
    placed = centres[random.integers(0, _NUM_CLUSTERS, num_items)] + 0.7 * own
    items.ids.weight.data = torch.from_numpy(placed.astype(np.float32))
    return SequentialNetwork(config, items).eval()


@torch.inference_mode()
def _torch(networks: list[SequentialNetwork], history: np.ndarray) -> torch.Tensor:
    given = torch.from_numpy(history)[None]
    return torch.cat([network(given)[:, -1] for network in networks], dim=1)


def _times(call: Callable[[int], object]) -> dict[str, float]:
    seconds = []
    for index in range(_REPEATS):
        started = time.process_time()
        call(index)
        seconds.append(time.process_time() - started)
    milliseconds = np.array(seconds[10:]) * 1e3
    return {"p50": round(float(np.median(milliseconds)), 3)} | {
        "p99": round(float(np.percentile(milliseconds, 99)), 3)
    }


if __name__ == "__main__":
    main()
