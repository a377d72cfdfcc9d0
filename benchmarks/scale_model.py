"""What a collection of any size costs, by constants measured here: docs/scale.md explains it.

    python benchmarks/scale_model.py [simulate=true] [moments=1e7,1e9,1e11] [points=FILE]

Prints the constants, how well they foretell the measured points that they were not fitted to and
what others have published, what each size needs and what breaks first there, and what each choice
saves. With `simulate=true` it prints, after these, what failures do to searches over 64 shards.
`points` name those of another processor.
"""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.scale_costs import (  # noqa: E402
    FITTED,
    POINTS,
    Model,
    code_bytes,
    read_points,
)
from benchmarks.scale_failures import (  # noqa: E402
    Cluster,
    Faults,
    fan_out_quantile,
    hedged_quantile,
    simulate,
)
from benchmarks.scale_plan import SERVICE, Plan, Rates, Wishes, costs_of, loads, p99_seconds  # noqa: E402
from benchmarks.scale_published import published_checks  # noqa: E402


def table(head: list[str], rows: list[list[str]]) -> None:
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def print_constants(model: Model) -> None:
    for name, cost in (("hot", model.hot), ("cold", model.cold)):
        values = ", ".join(f"{key} {1e6 * value:.4f}" for key, value in vars(cost).items())
        print(f"search, caches {name}, processor microseconds: {values}")
    values = ", ".join(f"{key} {1e6 * value:.4f}" for key, value in vars(model.build).items())
    print(f"building, processor microseconds: {values}")


def print_held_out(model: Model) -> list[float]:
    """Prints the searches of larger indexes; returns predicted over measured of each."""
    rows, ratios = [], []
    for point in model.searches:
        if point["count"] <= FITTED or point["cold"]:
            continue
        predicted = 1e3 * model.predicted_seconds(point)
        ratios.append(predicted / point["cpu_ms"])
        rows.append(
            [
                f"{point['count'] / 1e6:g}",
                str(point["shards"]),
                f"{point['nprobe']}, {point['candidates']}",
                " / ".join(f"{value:.3f}" for value in point["recall_stored"]),
                f"{predicted:.2f}",
                f"{point['cpu_ms']:.2f}",
                f"{100 * (ratios[-1] - 1):+.0f} %",
                f"{point['p50_ms']:.2f}, {point['p99_ms']:.1f}",
            ]
        )
    head = "10^6 vectors,shards,nprobe; candidates,recall@10 text / like,predicted ms,measured ms,"
    head += "off,p50; p99 ms"
    table([name.replace(";", ",") for name in head.split(",")], rows)
    if ratios:
        off = np.abs(np.array(ratios) - 1)
        print(f"\nwithin 20 %: {(off <= 0.2).sum()} of {len(off)}; median {np.median(off):.0%}")
    return ratios


def print_sizes(model: Model, sizes: list[float], wishes: Wishes) -> None:
    rows = []
    for moments in sizes:
        plan = Plan(moments)
        costs = costs_of(plan, model)
        rows.append(
            [
                f"{moments:.0e}",
                f"{costs.decode_hours:,.0f}",
                f"{costs.gpu_hours:,.1f}",
                f"{costs.index_hours:,.1f}",
                f"{costs.memory_bytes / 1e9:,.1f}",
                f"{costs.nvme_bytes / 1e12:,.2f}",
                f"{costs.nodes:,.0f}",
                f"{costs.shards_a_search:,.0f} x {1e3 * costs.shard_seconds:.1f}",
                f"{costs.queries_a_second:,.0f}",
                f"{1e3 * p99_seconds(plan, model, hedged=False):.0f}, "
                f"{1e3 * p99_seconds(plan, model, hedged=True):.0f}",
            ]
        )
    head = "moments,decoding core-h,encoding GPU-h,indexing core-h,memory GB,NVMe and objects TB,"
    head += "nodes (2 replicas),shards x core-ms,queries/s,p99 ms; hedged"
    table([name.replace(";", ",") for name in head.split(",")], rows)
    print("\nOf one node of 16 cores, 128 GB, 4 TB; what is above 1 breaks, the largest first:")
    for moments in sizes:
        found = loads(costs_of(Plan(moments), model), Plan(moments), wishes)
        ordered = sorted(found.items(), key=lambda item: -item[1])
        print(f"- {moments:.0e}: " + ", ".join(f"{name} {value:,.2g}" for name, value in ordered))


def print_choices(model: Model, moments: float) -> None:
    """Prints each choice beside the plan that it is made in."""
    plan = Plan(moments)
    choices = {
        "the plan: 4 frames a moment, float16 rows, 1 bit, hash": plan,
        "sampling: 1 frame a moment": replace(plan, frames_a_moment=1.0),
        "rows in 8 bits": replace(plan, row_bytes=1.0),
        "RaBitQ, 2 bits, an eighth of the rows scored again": replace(
            plan, bits=2, candidates=plan.candidates // 8
        ),
        "clusters: a tenth of the shards asked, a tenth stored twice": replace(
            plan, asked=0.1, copied=1.1
        ),
        "shards of a tenth of the size": replace(plan, moments_a_shard=1e7),
        "lists found through a graph": replace(plan, graph=True),
        "encoding on cores": replace(plan, has_gpu=False),
    }
    rows = []
    for name, chosen in choices.items():
        costs = costs_of(chosen, model)
        core_hours = costs.decode_hours + costs.encode_hours + costs.index_hours
        rows.append(
            [
                name,
                f"{core_hours:,.0f}",
                f"{costs.gpu_hours:,.0f}",
                f"{costs.memory_bytes / 1e9:,.0f}",
                f"{costs.nvme_bytes / 1e12:,.1f}",
                f"{costs.nodes:,.1f}",
                f"{1e3 * costs.query_core_seconds:,.0f}",
                f"{costs.queries_a_second / costs.nodes:,.1f}",
            ]
        )
    head = f"{moments:.0e} moments,core-h,GPU-h,memory GB,NVMe TB,nodes,core-ms a search,"
    head += "queries/s a node"
    table(head.split(","), rows)


def print_stragglers() -> None:
    rows = []
    for shards in (1, 4, 16, 64, 256, 1_024):
        hedge = fan_out_quantile(SERVICE, 1, 0.95)
        row = [str(shards)]
        for fraction in (0.5, 0.99):
            plain = fan_out_quantile(SERVICE, shards, fraction)
            hedged = hedged_quantile(SERVICE, shards, fraction, hedge_seconds=hedge)
            row += [f"{1e3 * plain:.1f}", f"{1e3 * hedged:.1f}"]
        rows.append(row)
    table(["shards asked", "p50 ms", "hedged", "p99 ms", "hedged"], rows)


def print_failures() -> None:
    """Simulates 64 shards of two replicas on two cores each, at 40 % of what they can do."""
    service = replace(SERVICE, median_seconds=0.02)
    spread = Cluster(64, 2, 2, service)
    together = replace(spread, is_spread=False)
    rate = 0.4 * 2 * spread.cores / service.mean_seconds
    racks = {
        cluster.is_spread: frozenset(
            (shard, replica)
            for shard in range(64)
            for replica in range(2)
            if cluster.rack_of(shard, replica) == 0
        )
        for cluster in (spread, together)
    }
    one = frozenset({(0, 0)})
    cases = {
        "nothing": (spread, Faults()),
        "a node gone, known after 10 s": (spread, Faults(gone=one, start_seconds=5)),
        "a rack of 16 nodes gone, replicas apart": (
            spread,
            Faults(gone=racks[True], start_seconds=5),
        ),
        "a rack of 16 nodes gone, replicas together": (
            together,
            Faults(gone=racks[False], start_seconds=5),
        ),
        "a replica 500 ms slower": (spread, Faults(slow=one, slow_seconds=0.5)),
        "a replica of a tenth of its speed": (spread, Faults(slow=one, slow_factor=10)),
    }
    ask = partial(simulate, queries_per_second=rate, num_queries=round(30 * rate))
    hedge = ask(spread).shard_p95_seconds
    rows = []
    for name, (cluster, faults) in cases.items():
        for after in (None, hedge):
            found = ask(cluster, hedge_seconds=after, faults=faults)
            whole = (found.answered == cluster.shards).mean()
            rows.append(
                [
                    name,
                    "no" if after is None else f"after {1e3 * after:.0f} ms",
                    f"{1e3 * found.percentile(50):.0f}",
                    f"{1e3 * found.percentile(99):.0f}",
                    f"{100 * whole:.2f} %",
                    f"{found.requests / found.answered.size / cluster.shards:.3f}",
                ]
            )
    print(f"\n{rate:.0f} searches a second for 30 s, deadline 1 s:")
    table(["fault", "hedged", "p50 ms", "p99 ms", "all shards", "requests a shard"], rows)


def main() -> None:
    options = parse_options(__doc__, simulate="false", moments="1e7,1e9,1e11", points=str(POINTS))
    model = Model(read_points(Path(options["points"])))
    print_constants(model)
    print_held_out(model)
    table(["published", "stated", "model", "model / stated"], published_checks(model))
    print(f"\nbytes a code of 1 bit and 512 dimensions: {code_bytes(512, 1)}")
    frame, vector = 1 / Rates().decoded, model.build.add_seconds(4_096)
    print(f"decoding a frame takes as long as indexing {frame / vector:.0f} vectors")
    print_sizes(model, [float(some) for some in options["moments"].split(",")], Wishes())
    print_choices(model, 1e9)
    print_stragglers()
    if options["simulate"] == "true":
        print_failures()


if __name__ == "__main__":
    main()
