"""How long answers take, by the clock and on the processor."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

AnswerT = TypeVar("AnswerT")


class Latency:
    """Times calls; `summary` gives their percentiles."""

    def __init__(self) -> None:
        self._wall_ns: list[int] = []
        self._cpu_ns: list[int] = []

    def timed(self, answer: Callable[..., AnswerT], *arguments: Any) -> AnswerT:
        """Calls a function, and returns what it does."""
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        value = answer(*arguments)
        self._wall_ns.append(time.perf_counter_ns() - wall)
        self._cpu_ns.append(time.thread_time_ns() - cpu)
        return value

    def summary(self) -> dict[str, float]:
        """`p50_ms` and `p99_ms` by the clock, which other programs slow down, and `p99_cpu_ms`."""
        if not self._wall_ns:
            return {"p50_ms": 0.0, "p99_ms": 0.0, "p99_cpu_ms": 0.0}
        p50, p99 = np.percentile(self._wall_ns, (50, 99)) / 1e6
        p99_cpu = np.percentile(self._cpu_ns, 99) / 1e6
        return {
            name: round(float(value), 4)
            for name, value in (("p50_ms", p50), ("p99_ms", p99), ("p99_cpu_ms", p99_cpu))
        }
