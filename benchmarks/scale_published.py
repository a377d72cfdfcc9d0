"""What others have published, beside what the model says of the same collection.

Each figure is of another index on other machines, so the model is held to a factor of two, and the
index that it assumes is its own: RaBitQ of one bit, a shard for each core.
"""

from dataclasses import replace

from benchmarks.scale_costs import Model, Setting, code_bytes, lists_of
from benchmarks.scale_failures import Service, fan_out_quantile
from benchmarks.scale_plan import Plan, costs_of

# Beaumont, "Semantic search at billions scale" (2022), and issue text for hours and nodes.
LAION_VECTORS, LAION_DIM, LAION_CORE_HOURS, LAION_CORES = 5.55e9, 768, 6 * 10 * 16, 160
# Subramanya et al., "DiskANN" (NeurIPS 2019), abstract.
DISKANN_BYTES, DISKANN_QPS, DISKANN_CORES, DISKANN_SECONDS = 64e9, 5_000, 16, 0.003
# big-ann-benchmarks, neurips21/t1_t2/README: FAISS is the baseline at this rate on 32 vCPUs.
BIG_ANN_QPS, BIG_ANN_CORES, BIG_ANN_BYTES = 10_000, 32, 64e9
# turbopuffer, "ANN v3" (2026): vectors of 1024 dimensions, p99, over a thousand searches a second.
LARGE_VECTORS, LARGE_DIM, LARGE_P99 = 1e11, 1_024, 0.2


def published_checks(model: Model) -> list[list[str]]:
    """Returns rows of a table: what, as published, by the model, and their ratio."""
    rows = []

    def add(name: str, stated: float, modelled: float, unit: str) -> None:
        ratio = modelled / stated
        rows.append([name, f"{stated:,.4g} {unit}", f"{modelled:,.4g} {unit}", f"{ratio:.2f}"])

    add("LAION-5B indexed", LAION_CORE_HOURS, laion_core_hours(model), "core-hours")
    memory = 1e9 * code_bytes(128, 1)
    add("DiskANN, memory for 10^9 of 128", DISKANN_BYTES, memory, "bytes")
    seconds = billion_core_seconds(model, shards=DISKANN_CORES, nprobe=64)
    add("DiskANN, searches/s on 16 cores", DISKANN_QPS, DISKANN_CORES / seconds, "a second")
    add("DiskANN, mean", DISKANN_SECONDS, seconds / DISKANN_CORES, "s")
    seconds = billion_core_seconds(model, shards=BIG_ANN_CORES, nprobe=16)
    add("big-ann T1, searches/s on 32 cores", BIG_ANN_QPS, BIG_ANN_CORES / seconds, "a second")
    add("10^11 of 1024, p99", LARGE_P99, large_p99(model), "s")
    return rows


def laion_core_hours(model: Model) -> float:
    """Adding all vectors to a shard for each core, the quantiser trained once."""
    lists = lists_of(LAION_VECTORS / LAION_CORES)
    adding = LAION_VECTORS * model.build.add_seconds(lists, LAION_DIM)
    return (adding + model.build.train_seconds(lists, LAION_DIM)) / 3600


def billion_core_seconds(model: Model, *, shards: int, nprobe: int) -> float:
    """Of a search in 10^9 vectors of 128 dimensions, in shards of one core each."""
    count = int(1e9 / shards)
    setting = Setting(count, lists_of(count), nprobe, 10, dim=128)
    return shards * model.search_seconds(setting)


def large_p99(model: Model) -> float:
    """Of a thousand shards asked at once, without stragglers other than the usual spread."""
    plan = replace(Plan(LARGE_VECTORS, dim=LARGE_DIM), moments_a_shard=LARGE_VECTORS / 1_000)
    seconds = costs_of(plan, model).shard_seconds
    return fan_out_quantile(Service(seconds, spread=0.25), 1_000, 0.99)
