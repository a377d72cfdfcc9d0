"""How long each stage of a search took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimes:
    """The seconds of one search, by stage: `analysis` of a sentence, `encoding`, `gathering` of
    candidates, `scoring`, and `hits`, the entries of the best. One thread uses it.

    Attributes:
        seconds: summed up where a stage ran several times.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time of its body to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - started
            self.seconds[stage] = self.seconds.get(stage, 0.0) + took
