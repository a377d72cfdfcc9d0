"""What others have published, beside what the model says of the same collection.

Each figure is of another index on other machines, so the model is held to a factor of two, and the
index that it assumes is its own: an inverted file over RaBitQ of one bit. Recall is not compared.
"""

from benchmarks.scale_costs import Model, Setting, code_bytes, lists_of
from benchmarks.scale_plan import Plan, Rates, p99_seconds

# Beaumont, "Semantic search at billions scale" (2022); hours and nodes are taken as given.
LAION_VECTORS, LAION_DIM, LAION_CORE_HOURS, LAION_CORES = 5.55e9, 768, 6 * 10 * 16, 160
# Subramanya et al., "DiskANN" (NeurIPS 2019), abstract.
DISKANN_BYTES, DISKANN_QPS, DISKANN_CORES, DISKANN_SECONDS = 64e9, 5_000, 16, 0.003
# big-ann-benchmarks, NeurIPS 2021, README of T1 and T2: the rates at which recall is compared, with
# FAISS and DiskANN as baselines.
T1_QPS, T1_CORES, T2_QPS, T2_CORES = 10_000, 32, 1_500, 8
# turbopuffer, "ANN v3" (2026): vectors of 1024 dimensions, p99, over a thousand searches a second.
LARGE_VECTORS, LARGE_DIM, LARGE_P99 = 1e11, 1_024, 0.2


def published_checks(model: Model) -> list[list[str]]:
    """Returns rows of a table: what, as published, by the model, and their ratio."""
    rows = []

    def add(name: str, stated: float, modelled: float, unit: str) -> None:
        ratio = modelled / stated
        rows.append([name, f"{stated:,.4g} {unit}", f"{modelled:,.4g} {unit}", f"{ratio:.2f}"])

    add("LAION-5B indexed", LAION_CORE_HOURS, laion_core_hours(model), "core-hours")
    memory = 1e9 * (code_bytes(128, 1) + Rates().table_bytes)
    add("DiskANN: memory for 10^9 of 128", DISKANN_BYTES, memory, "bytes")
    seconds = billion_seconds(model)
    add("DiskANN: searches on 16 cores", DISKANN_QPS, DISKANN_CORES / seconds, "a second")
    add("DiskANN: mean time of a search", DISKANN_SECONDS, seconds, "s")
    add("big-ann T1: searches on 32 vCPUs", T1_QPS, T1_CORES / seconds, "a second")
    add("big-ann T2: searches on 8 vCPUs", T2_QPS, T2_CORES / seconds, "a second")
    add("10^11 of 1024, p99", LARGE_P99, large_p99(model), "s")
    return rows


def laion_core_hours(model: Model) -> float:
    """Adding all vectors to a shard for each core, the quantiser trained once."""
    lists = lists_of(LAION_VECTORS / LAION_CORES)
    adding = LAION_VECTORS * model.build.add_seconds(lists, LAION_DIM)
    return (adding + model.build.train_seconds(lists, LAION_DIM)) / 3600


def billion_seconds(model: Model) -> float:
    """Of a search in one index of 10^9 vectors of 128 dimensions, whose lists are found through a
    graph (`index.kind=IVF131072_HNSW32,RaBitQ`), 64 of them looked into, 100 rows scored again."""
    setting = Setting(int(1e9), lists_of(1e9), 64, 10, dim=128, graph=True)
    return model.search_seconds(setting)


def large_p99(model: Model) -> float:
    """Of a thousand shards of 10^8, hedged, their lists found through a graph."""
    return p99_seconds(Plan(LARGE_VECTORS, dim=LARGE_DIM, graph=True), model, hedged=True)
