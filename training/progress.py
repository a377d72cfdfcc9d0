"""What a person sees of a run while it goes on: steps, time left, and how much of it is waiting."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reelseek.indexing.progress import progress_bar
from reelseek.training.curves import Record


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
        """Of the time so far, the share that was spent waiting for data."""
        return self._waited / max(1e-9, time.monotonic() - self._started)

    def step(self, record: Record) -> None:
        self._bar.set_postfix(
            loss=f"{record['train/loss']:.3f}", data_wait=f"{self.wait_fraction:.1%}", refresh=False
        )
        self._bar.update()

    def evaluated(self, record: Record) -> None:
        recalls = "  ".join(
            f"{side} R@1/5/10 "
            + "/".join(f"{record[f'val/{side}/R@{k}']:.1f}" for k in (1, 5, 10))
            + f" MdR {record[f'val/{side}/MdR']:g}"
            for side in ("t2v", "v2t")
        )
        if not self._bar.disable:
            line = f"step {record['step']:>6}  {recalls}"
            if sys.stderr.isatty():
                self._bar.write(line, file=self._bar.fp)
            else:
                print(line, file=sys.stderr)

    def close(self) -> None:
        self._bar.close()
