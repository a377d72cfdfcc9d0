"""A collection of some size -> what indexing, keeping and searching it takes, what breaks first.

Every constant that is not fitted by benchmarks/scale_costs.py is a field of `Rates` with the source
of its value.
"""

import math
from dataclasses import dataclass, field, replace

from benchmarks.scale_costs import DIM, Model, Setting, code_bytes, lists_of
from benchmarks.scale_failures import Service, fan_out_quantile, hedged_quantile

# Assumed, not measured: how much the times of a shard's answers differ, and how many straggle.
SERVICE = Service(0.005, spread=0.25, straggler_fraction=0.01, straggler_factor=10.0)


@dataclass(frozen=True)
class Rates:
    """Measured elsewhere in docs/.

    Attributes:
        decoded: frames a second a core, 224 pixels high (benchmarks.md, "Indexing and start-up").
        encoded_core: frames a second a core by `mini` without bf16 (the same place).
        encoded_gpu: frames a second a GPU by ViT-B/32 on an H200 (the same place).
        other_bytes: on disk a moment besides rows and codes, catalogue and texts: 1,576 MiB for
            10^6 moments (benchmarks.md, "The service"), less rows of 1,028 bytes and codes of 164.
        table_bytes: a moment's row in the table of its shard (indexing/vectors/shard.py).
        disk_read_seconds: for a row that is not in memory; 0.1 ms is what makers of NVMe state.
    """

    decoded: float = 278.0
    encoded_core: float = 50.0
    encoded_gpu: float = 17_300.0
    other_bytes: float = 460.0
    table_bytes: float = 32.0
    disk_read_seconds: float = 1e-4


@dataclass(frozen=True)
class Node:
    """A machine: 16 cores, 128 GB of memory, 4 TB of NVMe."""

    cores: int = 16
    memory_bytes: float = 128e9
    nvme_bytes: float = 4e12


@dataclass(frozen=True)
class Plan:
    """A collection and what was chosen for it.

    Attributes:
        moments: vectors in all.
        frames_a_moment: decoded and encoded of each.
        row_bytes: of each dimension on disk: 2 for float16, 1 for 8 bits.
        moments_a_shard: at most.
        probed: lists that a search looks into, of each shard.
        asked: the fraction of the shards that a search asks: 1 where a hash places videos.
        copied: how often a moment is stored, 1 where a hash places videos.
        has_gpu: whether GPUs encode.
        graph: whether vectors find their list through a graph over the centroids.
    """

    moments: float
    dim: int = DIM
    bits: int = 1
    frames_a_moment: float = 4.0
    row_bytes: float = 2.0
    moments_a_shard: float = 1e8
    probed: int = 64
    candidates: int = 128
    asked: float = 1.0
    copied: float = 1.0
    replicas: int = 2
    has_gpu: bool = True
    graph: bool = False
    node: Node = field(default_factory=Node)
    rates: Rates = field(default_factory=Rates)

    @property
    def stored(self) -> float:
        """Moments in all shards, copies included."""
        return self.moments * self.copied

    @property
    def shards(self) -> float:
        return max(1.0, self.stored / self.moments_a_shard)

    @property
    def setting(self) -> Setting:
        count = int(self.stored / self.shards)
        return Setting(
            count,
            lists_of(count),
            self.probed,
            self.candidates,
            dim=self.dim,
            bits=self.bits,
            graph=self.graph,
        )


@dataclass(frozen=True)
class Costs:
    """Of a plan.

    Attributes:
        decode_hours, encode_hours, index_hours: of cores; encoding is 0 where GPUs do it.
        gpu_hours: of encoding.
        memory_bytes, nvme_bytes, object_bytes: memory and NVMe of one replica of everything.
        shard_seconds: of a search on one core of one shard.
        query_core_seconds: of a search over all shards that it asks.
        nodes: that hold all replicas, by the scarcest of memory and NVMe.
        queries_a_second: that these nodes answer with all their cores.
        shards_a_search: asked.
    """

    decode_hours: float
    encode_hours: float
    index_hours: float
    gpu_hours: float
    memory_bytes: float
    nvme_bytes: float
    object_bytes: float
    shard_seconds: float
    query_core_seconds: float
    nodes: float
    queries_a_second: float
    shards_a_search: float


def costs_of(plan: Plan, model: Model) -> Costs:
    rates, setting = plan.rates, plan.setting
    frames = plan.moments * plan.frames_a_moment
    adding = model.build.add_seconds(setting.lists, plan.dim)
    if plan.graph:
        without = replace(model.build, centroid=0.0)
        adding = without.add_seconds(setting.lists, plan.dim)
        adding += model.graph_seconds(setting.lists, "assign", plan.dim)
    indexing = plan.stored * adding + model.build.train_seconds(setting.lists, plan.dim)

    centroids = plan.shards * setting.lists * plan.dim * 4
    memory = plan.stored * (code_bytes(plan.dim, plan.bits) + rates.table_bytes) + centroids
    rows = plan.stored * (plan.dim * plan.row_bytes + 4)  # a checksum or a scale each
    nvme = rows + memory + plan.stored * rates.other_bytes

    seconds = model.search_seconds(setting, shards=math.ceil(plan.shards))
    asked = max(1.0, plan.shards * plan.asked)
    nodes = plan.replicas * max(
        memory / plan.node.memory_bytes, nvme / plan.node.nvme_bytes, 1 / plan.replicas
    )
    return Costs(
        decode_hours=frames / rates.decoded / 3600,
        encode_hours=0.0 if plan.has_gpu else frames / rates.encoded_core / 3600,
        index_hours=indexing / 3600,
        gpu_hours=frames / rates.encoded_gpu / 3600 if plan.has_gpu else 0.0,
        memory_bytes=memory,
        nvme_bytes=nvme,
        object_bytes=nvme,
        shard_seconds=seconds,
        query_core_seconds=seconds * asked,
        nodes=nodes,
        queries_a_second=nodes * plan.node.cores / (seconds * asked),
        shards_a_search=asked,
    )


def p99_seconds(plan: Plan, model: Model, *, hedged: bool) -> float:
    """Returns the 99th percentile of searches whose shards are asked at once, on idle cores; with
    hedging, each shard again after the 95th percentile of its own time."""
    costs = costs_of(plan, model)
    service = replace(SERVICE, median_seconds=costs.shard_seconds)
    shards = math.ceil(costs.shards_a_search)
    if not hedged:
        return fan_out_quantile(service, shards, 0.99)
    hedge = fan_out_quantile(service, 1, 0.95)
    return hedged_quantile(service, shards, 0.99, hedge_seconds=hedge)


@dataclass(frozen=True)
class Wishes:
    """What is asked of a service.

    Attributes:
        queries_a_second: at its peak, at most at half of what its cores can do.
        p99_seconds: that a search may take.
        days: in which the collection is to be indexed, on as many nodes as hold it.
    """

    queries_a_second: float = 100.0
    p99_seconds: float = 0.2
    days: float = 30.0


def loads(costs: Costs, plan: Plan, wishes: Wishes) -> dict[str, float]:
    """Returns how many times one node would have to have each thing that it has; what is largest
    breaks first, and nothing does below 1."""
    node = plan.node
    core_hours = costs.decode_hours + costs.encode_hours + costs.index_hours
    return {
        "decoding and encoding in time": core_hours / (node.cores * 24 * wishes.days),
        "memory": costs.memory_bytes / node.memory_bytes,
        "NVMe": costs.nvme_bytes / node.nvme_bytes,
        "queries a second": 2 * wishes.queries_a_second * costs.query_core_seconds / node.cores,
        "latency, shards asked one after another": costs.query_core_seconds / wishes.p99_seconds,
    }
