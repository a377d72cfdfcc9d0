"""The records of a run -> TensorBoard events and a picture of the curves."""

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from reelseek.indexing.store.atomic import publish_file

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def is_validation(record: Record) -> bool:
    return any(name.startswith("val/") for name in record)


def best_record(history: Sequence[Record]) -> Record | None:
    """Returns the validation with the highest score; the first of equal ones, None without any."""
    return max(filter(is_validation, history), key=score_of, default=None)


def score_of(record: Record) -> float:
    """Returns a validation's own score, or the mean of text-to-video R@1, R@5 and R@10, which
    depends less on chance than R@1 alone."""
    if "val/score" in record:
        return record["val/score"]
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
        *_validation_panels(history),
        ("1 / temperature", ["train/logit_scale"]),
    ]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    places = list(figure.subplots(2, -(-len(panels) // 2), squeeze=False).flat)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, names) in zip(places, panels, strict=False):
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


def _validation_panels(history: list[Record]) -> list[tuple[str, list[str]]]:
    """Returns a panel for each group of recalls, or for the losses of a group without any."""
    groups: dict[str, dict[str, None]] = {}
    for name in (name for record in history for name in record if name.count("/") == 2):
        groups.setdefault(name.split("/")[1], {}).setdefault(name)
    panels = []
    for group, names in (groups or {"t2v": {}, "v2t": {}}).items():
        recalls = [name for name in names if "R@" in name]
        losses = [name for name in names if name.endswith("/loss")]
        panels.append((f"validation, {group}{', %' if recalls else ''}", recalls or losses))
    return panels
