"""AUC by hour of a replay, the model that learns beside its frozen state, as a picture.

    python -m recommendation.replay events=[A.parquet,...] ... predictions=FILE.npz
    python benchmarks/replay_plot.py events=A.parquet[,...] predictions=FILE.npz output=FILE.png
        [hours=1] [label=long_view]

`predictions` must come of the same events. Hours of UTC with fewer than 200 events, or with one
label only, are left out. Prints the number of hours, and in how many the learning model is better.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing.store.atomic import publish_file  # noqa: E402
from reelseek.recommendation.learning.impressions import HEADS  # noqa: E402
from reelseek.recommendation.learning.reading import read_impressions  # noqa: E402
from reelseek.recommendation.learning.sessions import auc  # noqa: E402

MIN_EVENTS = 200
_HOUR_MS = 3_600_000


def auc_by_span(
    time_ms: np.ndarray,
    labels: np.ndarray,
    predicted: list[np.ndarray],
    *,
    span_ms: int,
    min_events: int = MIN_EVENTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the beginnings of spans in ms, `(n,)`, and the AUC of each prediction in them,
    `(n, len(predicted))`; spans with too few events, or with one label only, are left out.

    Args:
        time_ms, labels: `(num_events,)`, as each of `predicted`.
    """
    span = time_ms // span_ms
    begins, rows = [], []
    for number in np.unique(span).tolist():
        inside = span == number
        row = [auc(labels[inside], each[inside]) for each in predicted]
        if inside.sum() >= min_events and not np.isnan(row).any():
            begins.append(number * span_ms)
            rows.append(row)
    return np.array(begins, np.int64), np.array(rows).reshape(len(rows), len(predicted))


def draw(begins: np.ndarray, values: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    when = begins.astype("datetime64[ms]")
    for column, (name, style) in enumerate([("learning", "-"), ("frozen", "--")]):
        axes.plot(when, values[:, column], style, label=name)
    axes.set_ylabel("AUC")
    axes.set_xlabel("time (UTC)")
    axes.grid(alpha=0.3)
    axes.legend()
    publish_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))


def main() -> None:
    options = parse_options(
        __doc__, events=None, predictions=None, output=None, hours="1", label="long_view"
    )
    head = HEADS.index(options["label"])
    paths = [Path(path) for path in options["events"].split(",")]
    impressions, outcomes, _ = read_impressions("events", paths)
    with np.load(options["predictions"]) as found:
        time_ms, online, frozen = found["time_ms"], found["online"], found["frozen"]
    if len(time_ms):
        measured = impressions.time_ms >= time_ms[0]
    if not len(time_ms) or not np.array_equal(impressions.time_ms[measured], time_ms):
        raise SystemExit(f"predictions={options['predictions']}: of other events")
    begins, values = auc_by_span(
        time_ms,
        outcomes.labels[measured, head],
        [online[:, head], frozen[:, head]],
        span_ms=round(float(options["hours"]) * _HOUR_MS),
    )
    draw(begins, values, Path(options["output"]))
    better = int((values[:, 0] > values[:, 1]).sum())
    print(json.dumps({"spans": len(begins), "better": better}))


if __name__ == "__main__":
    main()
