"""Whether there is an answer at all: probabilities of match on queries with and without one.

    python benchmarks/confidence.py indexes=A,B,... [model=mini] [picture=FILE.png] [splits=20]

The gallery is all videos of the indexes. `confidence_queries.tsv` holds short queries, each with
its kind: `object`, `household` and `scene` are shown by some clip, `absent` by none (no caption
names them, and the captions of the best hits were read; not every clip was looked at). Further
negatives are of another kind: the `object` queries, asked of the clips of robots at tables alone
(`source` is `droid`), whose captions name none of them. Long queries, captions, are searched too;
none was fitted to.

Half of the queries of each kind are fitted to, the other half is measured: at the threshold at
which 80 % of the held-out short queries that have an answer still get one, how many of those that
have none are told so. Mean and range over random halves; the coefficients printed, and the picture,
are those of the first. `robots=WEIGHT` is what an object query among the robots counts in fitting.
"""

import sys
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.calibration import expected_calibration_error, fit_calibration, reliability
from benchmarks.indexed import open_model, read_indexes
from benchmarks.options import parse_options
from reelseek.ranking.confidence import (
    DEFAULT_CALIBRATION,
    FEATURE_NAMES,
    SUGGESTED_MIN_CONFIDENCE,
    Background,
)
from reelseek.text import everyday_queries

QUERIES = Path(__file__).with_name("confidence_queries.tsv")
SHOWN = ("object", "household", "scene")
KEPT = 0.8  # of the queries that have an answer
NUM_CAPTIONS = 300


class Measured(NamedTuple):
    """Features of the best hit of each query, `(n, 3)`, by kind; `robots` are those of `object`
    among the robots, in the same order."""

    features: dict[str, np.ndarray]
    robots: np.ndarray


def read_queries() -> dict[str, list[str]]:
    queries: dict[str, list[str]] = {}
    for line in QUERIES.read_text(encoding="utf-8").splitlines():
        kind, query = line.split("\t")
        queries.setdefault(kind, []).append(query)
    return queries


def best_hits(background: Background, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    best = (queries @ items.T).argmax(axis=1)
    return np.concatenate(
        [
            background.features(query, items[index][None])
            for query, index in zip(queries, best, strict=True)
        ]
    )


def measure(folders: list[Path], model_name: str) -> Measured:
    from reelseek.text import TextEncoder

    indexed = read_indexes(folders)
    model, tokenizer = open_model(model_name)
    encode = TextEncoder(model.clip, tokenizer).encode
    embeddings = {kind: encode(each).numpy() for kind, each in read_queries().items()}
    sources = np.array([record.metadata.get("source", "") for record in indexed.records])
    captions = [
        each[0]
        for each, source in zip(indexed.captions, sources, strict=True)
        if each and source != "droid"
    ]
    chosen = np.random.default_rng(0).choice(len(captions), NUM_CAPTIONS, replace=False)
    embeddings["caption"] = encode([captions[index] for index in chosen]).numpy()
    queries = encode(everyday_queries()).numpy()
    background = Background.measure(queries, indexed.videos)
    features = {k: best_hits(background, each, indexed.videos) for k, each in embeddings.items()}
    robots = indexed.videos[sources == "droid"]
    return Measured(
        features, best_hits(Background.measure(queries, robots), embeddings["object"], robots)
    )


class Halves(NamedTuple):
    """Features that are fitted to, with their labels and weights; and held-out ones by kind."""

    features: np.ndarray
    matches: np.ndarray
    weights: np.ndarray
    held_out: dict[str, np.ndarray]


def split(measured: Measured, *, seed: int, robots_weight: float) -> Halves:
    random = np.random.default_rng(seed)
    fitted, held_out = {}, {"caption": measured.features["caption"]}
    for kind in (*SHOWN, "absent"):
        every = measured.features[kind]
        order = random.permutation(len(every))
        first, second = order[: len(every) // 2], order[len(every) // 2 :]
        fitted[kind], held_out[kind] = every[first], every[second]
        if kind == "object":
            fitted["robots"], held_out["robots"] = measured.robots[first], measured.robots[second]
    matches = np.concatenate([np.full(len(f), kind in SHOWN) for kind, f in fitted.items()])
    counts = np.concatenate(
        [np.full(len(f), robots_weight if kind == "robots" else 1.0) for kind, f in fitted.items()]
    )
    # As if a query had an answer as often as not.
    counts[matches] *= counts[~matches].sum() / counts[matches].sum()
    return Halves(np.concatenate(list(fitted.values())), matches, counts, held_out)


Score = Callable[[np.ndarray], np.ndarray]


def told(score: Score, held_out: dict[str, np.ndarray]) -> dict[str, float]:
    """Percent of each kind below the threshold."""
    scores = {kind: score(each) for kind, each in held_out.items()}
    threshold = np.quantile(np.concatenate([scores[kind] for kind in SHOWN]), 1 - KEPT)
    return {kind: 100 * float((each < threshold).mean()) for kind, each in scores.items()} | {
        "threshold": float(threshold)
    }


def main() -> None:
    options = parse_options(
        __doc__, indexes=None, model="mini", picture="", splits="20", robots="0.25"
    )
    folders = [Path(name) for name in options["indexes"].split(",")]
    measured = measure(folders, options["model"])
    rows: dict[str, list[dict[str, float]]] = {}
    errors = []
    for seed in range(int(options["splits"])):
        halves = split(measured, seed=seed, robots_weight=float(options["robots"]))
        fit = fit_calibration(halves.features, halves.matches, sample_weights=halves.weights)
        ways: dict[str, Score] = {
            f"{name} alone": itemgetter((slice(None), column))
            for column, name in enumerate(FEATURE_NAMES)
        }
        ways["calibration"] = fit.probability
        for name, score in ways.items():
            rows.setdefault(name, []).append(told(score, halves.held_out))
        kinds = (*SHOWN, "absent")
        probabilities = np.concatenate([fit.probability(halves.held_out[k]) for k in kinds])
        matches = np.concatenate([np.full(len(halves.held_out[k]), k in SHOWN) for k in kinds])
        errors.append(expected_calibration_error(probabilities, matches))
        if seed == 0:
            weights = ", ".join(f"{value:.3f}" for value in fit.weights)
            print(f"first half: weights ({weights}), bias {fit.bias:.3f}")
            print(f"as shipped, percent below {SUGGESTED_MIN_CONFIDENCE} in the second half:")
            for kind, each in halves.held_out.items():
                is_told = DEFAULT_CALIBRATION.probability(each) < SUGGESTED_MIN_CONFIDENCE
                print(f"  {kind} {100 * is_told.mean():.1f} of {len(each)}")
            if options["picture"]:
                draw(probabilities, matches, Path(options["picture"]))
    print('percent told "nothing matches": mean (least-most) over the splits')
    columns = ("absent", "robots", *SHOWN, "caption", "threshold")
    print(f"{'':26}" + "".join(f"{name:>19}" for name in columns))
    for name, found in rows.items():
        cells = []
        for column in columns:
            values = np.array([each[column] for each in found])
            digits = 2 if column == "threshold" else 0
            low, high = f"{values.min():.{digits}f}", f"{values.max():.{digits}f}"
            cells.append(f"{values.mean():.{digits or 1}f} ({low}-{high})")
        print(f"{name:26}" + "".join(f"{cell:>19}" for cell in cells))
    print(f"expected calibration error {np.mean(errors):.3f} ({min(errors):.3f}-{max(errors):.3f})")


def draw(probabilities: np.ndarray, matches: np.ndarray, path: Path) -> None:
    """The reliability diagram, and below it how many queries stand behind each point."""
    from matplotlib.figure import Figure

    stated, observed, counts = reliability(probabilities, matches, num_bins=8)
    figure = Figure(figsize=(4.5, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    filled = counts > 0
    spread = np.sqrt(observed[filled] * (1 - observed[filled]) / counts[filled])
    above.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    above.errorbar(stated[filled], observed[filled], yerr=1.96 * spread, marker="o", capsize=2)
    above.set_ylabel("queries that have an answer")
    above.set_ylim(-0.02, 1.02)
    edges = np.linspace(0, 1, len(counts) + 1)
    for is_match, name in ((True, "have an answer"), (False, "have none")):
        some = np.histogram(probabilities[matches == is_match], bins=edges)[0]
        below.stairs(some, edges, label=name, fill=not is_match, alpha=0.6)
    below.legend(fontsize=7)
    below.set_ylabel("queries")
    below.set_xlabel("stated probability of a match")
    figure.savefig(path, format="png", dpi=110)


if __name__ == "__main__":
    main()
