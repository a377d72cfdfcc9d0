"""Completion on days on which what is asked changes fast, generated, and on calm ones.

    python benchmarks/completion_surge.py [seeds=3]

Generates queries by day whose popularities wander: each has a daily growth, which itself wanders
with a given spread, and new queries begin to grow each day. The first eight days are the log; the
days after them are answered as `evaluate_completion` does. Prints MRR@10 of the plain table of all
days before, of the forecasts, and of the day's own counts, as means over seeds.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.recommendation.completion.query_evaluation import evaluate_queries  # noqa: E402
from reelseek.recommendation.completion.query_files import DailyCounts  # noqa: E402

NUM_DAYS, NUM_LOGGED = 16, 8
NUM_QUERIES, NUM_ASKED = 150, 20_000
FIRST_DAY = 737_425  # 1 January 2020
SETTINGS = {"calm": (0.0, 0), "drifting": (0.05, 5), "surging": (0.15, 20), "stormy": (0.4, 40)}


def generated_days(spread: float, births: int, seed: int) -> DailyCounts:
    """Args: spread: of the change of a query's daily growth. births: new queries a day."""
    draws = np.random.default_rng(seed)
    names = iter(_names(draws))
    queries = [next(names) for _ in range(NUM_QUERIES)]
    logs, growth = draws.normal(0, 1.5, NUM_QUERIES), draws.normal(0, spread, NUM_QUERIES)
    days: DailyCounts = {}
    for day in range(NUM_DAYS):
        shares = np.exp(logs - logs.max())
        counts = draws.poisson(NUM_ASKED * shares / shares.sum())
        asked = {q: int(n) for q, n in zip(queries, counts, strict=True) if n}
        days[FIRST_DAY + day] = Counter(asked)
        growth = 0.6 * growth + draws.normal(0, spread, len(growth))
        logs = logs + growth
        queries += [next(names) for _ in range(births)]
        logs = np.append(logs, logs.max() + draws.normal(-5, 1, births))
        growth = np.append(growth, np.abs(draws.normal(0.3, spread, births)))
    return days


def _names(draws: np.random.Generator) -> list[str]:
    """Queries that share their first letters, as those about one matter do."""
    heads = ["corona", "covid", "cases", "china", "mask", "map", "symptoms", "news", "travel"]
    tails = [f"{a}{b}" for a in "abcdefghijklmnop" for b in "abcdefghijklmnop"]
    names = [f"{head} {tail}" for head in heads for tail in tails]
    return [names[number] for number in draws.permutation(len(names)).tolist()]


def main() -> None:
    num_seeds = int(parse_options(__doc__, seeds="3")["seeds"])
    print(f"{'days':<10} {'table':>7} {'forecasts':>10} {'own counts':>11}")
    for name, (spread, births) in SETTINGS.items():
        rows = []
        for seed in range(num_seeds):
            days = generated_days(spread, births, seed)
            last = FIRST_DAY + NUM_LOGGED
            log: DailyCounts = {}
            test: DailyCounts = {}
            for day, counts in days.items():
                assert day is not None
                (log if day < last else test)[day] = counts
            result = evaluate_queries(log, test, (1, 4))
            rows.append((result["baselines"]["table"], result["MRR@10"], result["ceiling"]))
        table, forecasts, own = np.mean(rows, axis=0)
        print(f"{name:<10} {table:>7.4f} {forecasts:>10.4f} {own:>11.4f}")


if __name__ == "__main__":
    main()
