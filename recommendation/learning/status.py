"""How far a learner is, in a small file beside its model, for the servers that show it.

The file tells people and monitors; the model's own files say what was learned.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelseek.indexing.store.atomic import write_atomically
from reelseek.recommendation.learning.learner import Learner

__all__ = ["StatusWriter", "read_status", "status_of"]

_NAME = "status.json"
_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0  # between two writes
_QUALITY_SECONDS = 10.0  # between two looks at the predictions of the last hour, which are many
_SILENT_SECONDS = 30.0  # after which a learner does not run


def status_of(learner: Learner, *, now_seconds: float) -> dict[str, Any]:
    """Returns what is quick to say of a learner."""
    counts, table = learner.joiner.counts, learner.model.table
    lag_events = learner.lag_events
    behind_seconds = max(0.0, now_seconds - learner.joiner.now_seconds)
    return {
        "position": learner.position,
        "lag_events": lag_events,
        "lag_seconds": round(behind_seconds, 3) if lag_events and learner.position else 0.0,
        "examples": counts.examples,
        "corrections": counts.corrections,
        "repeated": counts.repeated,
        "unmatched": counts.unmatched,
        "rows": len(table),
        "evicted": table.num_evicted,
        "expired": table.num_expired,
        "frozen": getattr(learner, "frozen", None),
    }


class StatusWriter:
    """Writes the file now and then.

    Args:
        folder: of the model.
        clock: gives the Unix time in seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = folder / _NAME, clock
        self._written_at = self._judged_at = clock() - _QUALITY_SECONDS
        self._num_events = 0
        self._quality: dict[str, Any] = {}

    def note(self, learner: Learner, num_events: int) -> None:
        """Takes note of events that were learned; writes if it is time."""
        now = self._clock()
        self._num_events += num_events
        elapsed = now - self._written_at
        if elapsed < (_BUSY_SECONDS if self._num_events else _IDLE_SECONDS):
            return
        if now - self._judged_at >= _QUALITY_SECONDS:
            self._quality = learner.recent.summary()
            self._judged_at = now
        status = {
            **status_of(learner, now_seconds=now),
            "events_per_second": round(self._num_events / elapsed, 1),
            "last_hour": self._quality,
            "updated_seconds": now,
        }
        write_atomically(self._path, json.dumps(status).encode())
        self._written_at, self._num_events = now, 0


def read_status(folder: Path, *, now_seconds: float | None = None) -> dict[str, Any] | None:
    """Returns what the learner wrote last, and whether it `runs`; None where nothing can be read.

    Args:
        now_seconds: Unix time; default: now.
    """
    try:
        found = json.loads((folder / _NAME).read_bytes())
        now = time.time() if now_seconds is None else now_seconds
        return {**found, "runs": now - found["updated_seconds"] < _SILENT_SECONDS}
    except (OSError, ValueError, KeyError, TypeError):
        return None
