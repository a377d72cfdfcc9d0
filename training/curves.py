"""The records of a run -> TensorBoard events and a picture of the curves."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from reelseek.indexing.store.atomic import publish_file

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def best_record(history: Sequence[Record]) -> Record | None:
    """Returns the validation with the highest mean of text-to-video R@1, R@5 and R@10, which
    depends less on chance than R@1 alone; the first of equal ones, None without any."""
    evaluated = [record for record in history if "val/t2v/R@1" in record]
    return max(evaluated, key=mean_recall, default=None)


def mean_recall(record: Record) -> float:
    return sum(record[f"val/t2v/R@{k}"] for k in (1, 5, 10)) / 3


class EventLog:
    """TensorBoard's event files of a run; none where TensorBoard is not installed.

    Purges existing events: a run that continues writes its history again, so that no event is
    there twice.

    Args:
        folder: for the events; None to write none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                logger.warning("no TensorBoard events are kept: pip install 'reelseek[train]'")
            else:
                self._writer = SummaryWriter(str(folder), purge_step=0)

    def add(self, record: Record) -> None:
        """Writes each number of a record under its name, at the record's step."""
        if self._writer is not None:
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, record["step"])

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def draw_curves(history: list[Record], path: Path) -> None:
    """Draws loss, validation recalls and learning rate over the steps, as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    panels = [
        ("loss", ["train/loss"]),
        ("validation, t2v, %", ["val/t2v/R@1", "val/t2v/R@5", "val/t2v/R@10"]),
        ("validation, v2t, %", ["val/v2t/R@1", "val/v2t/R@5", "val/v2t/R@10"]),
        ("1 / temperature", ["train/logit_scale"]),
    ]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for name in names:
            points = [(record["step"], record[name]) for record in history if name in record]
            if points:
                marker = "o" if len(points) < 40 else ""
                axes.plot(
                    *zip(*points, strict=True),
                    label=name.rpartition("/")[2],
                    marker=marker,
                    markersize=3,
                )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            axes.legend(fontsize=8)
    publish_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=110))
