"""The records of a run -> what its user sees: a progress bar, validations, a summary."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reelseek.indexing.progress import progress_bar
from reelseek.training.checkpoints import RunState
from reelseek.training.curves import Record, best_record, is_validation


class StepProgress:
    """A bar on stderr that counts steps, and a line for each validation.

    Args:
        num_steps: of the whole run.
        first_step: already done.
        show: False for silence.
    """

    def __init__(self, *, num_steps: int, first_step: int = 0, show: bool = True) -> None:
        self._bar = progress_bar(
            total=num_steps,
            initial=first_step,
            desc="training",
            unit="step",
            disable=not show,
        )
        self._started = time.monotonic()
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around each wait for data."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    @property
    def wait_fraction(self) -> float:
        """The fraction of the time so far that was spent waiting for data."""
        return self._waited / max(1e-9, time.monotonic() - self._started)

    def step(self, record: Record) -> None:
        self._bar.set_postfix(
            loss=f"{record['train/loss']:.3f}", data_wait=f"{self.wait_fraction:.1%}", refresh=False
        )
        self._bar.update()

    def evaluated(self, record: Record) -> None:
        if not self._bar.disable:
            line = f"step {record['step']:>6}  {_validation_line(record)}"
            if sys.stderr.isatty():
                self._bar.write(line, file=self._bar.fp)
            else:
                print(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def summary(state: RunState, num_steps: int, wait_fraction: float) -> str:
    """Returns a run in a few lines for a person."""
    losses = [record["train/loss"] for record in state.history if "train/loss" in record]
    lines = [f"{state.step} of {num_steps} steps; {wait_fraction:.1%} of the time waiting for data"]
    if losses:
        lines.append(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
    if best := best_record(state.history):
        first = next(filter(is_validation, state.history))
        for name, record in (("at first", first), ("best", best)):
            lines.append(f"validation {name} (step {record['step']}): {_shortest(record)}")
    return "\n".join(lines)


def _shortest(record: Record) -> str:
    return _group_line(record, "t2v") if "val/t2v/R@1" in record else _validation_line(record)


def _validation_line(record: Record) -> str:
    groups = dict.fromkeys(name.split("/")[1] for name in record if name.count("/") == 2)
    return "  ".join(_group_line(record, group) for group in groups)


def _group_line(record: Record, group: str) -> str:
    """Returns recalls in one piece, then what else a person looks at."""
    recalls = [k for k in (1, 5, 10) if f"val/{group}/R@{k}" in record]
    parts = [group]
    if recalls:
        values = "/".join(f"{record[f'val/{group}/R@{k}']:.1f}" for k in recalls)
        parts.append(f"R@{'/'.join(map(str, recalls))} {values}")
    for name in ("MdR", "MRR", "loss", "perplexity"):
        if (value := record.get(f"val/{group}/{name}")) is not None:
            parts.append(f"{name} {value:.4g}")
    return " ".join(parts)
