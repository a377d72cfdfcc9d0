"""The samples that could not be loaded -> counts of all processes, a log, and a file."""

import logging
from pathlib import Path

import torch
from torch import distributed

from reelseek.indexing.store.atomic import write_atomically
from reelseek.training.processes import Processes

logger = logging.getLogger(__name__)

_MIN_JUDGED = 1000  # samples after which the fraction of broken ones is judged
_MAX_REPORTED = 10_000

Failure = tuple[str, str]  # a sample or a shard, and a reason


class SkippedSamples:
    """Names each broken sample once, and counts it as often as it is met.

    Args:
        report: file that the first process writes, a line each.
        broken_shards: named in the report too.
        max_failed_fraction: of the samples that may be broken.
        processes: of the run.
        is_continued: whether the report of the run so far goes on.
    """

    def __init__(
        self,
        report: Path,
        broken_shards: list[Failure],
        *,
        max_failed_fraction: float,
        processes: Processes,
        is_continued: bool = False,
    ) -> None:
        self._report = report
        self._max_failed_fraction = max_failed_fraction
        self._processes = processes
        self._num_loaded = self._num_failed = 0
        self._reasons = dict(broken_shards)
        if is_continued:
            self._reasons = dict(_read(report)) | self._reasons
        if self._reasons and processes.is_main_process:
            _write(report, self._reasons)

    def count(self, failed: list[Failure], *, num_loaded: int) -> int:
        """Counts and names the broken samples of a step. Called in all processes together.

        Args:
            failed: those that this process met.
            num_loaded: samples that this process loaded in their place, and others.

        Returns:
            How many were broken, over all processes.

        Raises:
            ValueError: too many samples were broken since this run was started.
        """
        num_failed = len(failed)
        if self._processes.world_size > 1:
            counts = torch.tensor([num_failed, num_loaded], device=self._processes.device)
            distributed.all_reduce(counts)
            num_failed, num_loaded = counts.tolist()
            if num_failed:
                parts: list[list[Failure]] = [[] for _ in range(self._processes.world_size)]
                distributed.all_gather_object(parts, failed)
                failed = [failure for part in parts for failure in part]
        self._num_failed += num_failed
        self._num_loaded += num_loaded
        self._name(failed)
        if self._num_loaded >= _MIN_JUDGED:
            self._require_few()
        return num_failed

    def _name(self, failed: list[Failure]) -> None:
        new = {name: reason for name, reason in failed if name not in self._reasons}
        if not new or len(self._reasons) >= _MAX_REPORTED:
            return
        self._reasons |= new
        if self._processes.is_main_process:
            for name, reason in new.items():
                logger.warning("left out: %s: %s", name, reason)
            _write(self._report, self._reasons)

    def _require_few(self) -> None:
        if self._num_failed <= self._max_failed_fraction * self._num_loaded:
            return
        name, reason = next(iter(self._reasons.items()))
        raise ValueError(
            f"{self._num_failed} of {self._num_loaded} samples are broken, more than "
            f"data.max_failed_fraction={self._max_failed_fraction} allows; the list is in "
            f"{self._report}; the first: {name}: {reason}"
        )


def _read(path: Path) -> list[Failure]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    fields = (line.split("\t", 1) for line in lines)
    return [(parts[0], parts[-1]) for parts in fields]


def _write(path: Path, reasons: dict[str, str]) -> None:
    lines = "".join(f"{name}\t{reason}\n" for name, reason in reasons.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lines.encode(errors="backslashreplace"))
