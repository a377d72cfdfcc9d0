"""How far a learner is, in a small file beside its model, for the servers that show it.

The file tells people and monitors; the model's own files say what was learned. Where these are
published, so is the file.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelseek.indexing.store.atomic import write_atomically
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.redis_server import RedisUnavailable

__all__ = ["PublishedStatus", "StatusWriter", "read_status", "status_of"]

logger = logging.getLogger(__name__)

_NAME = "status.json"
_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0  # between two writes
_QUALITY_SECONDS = 10.0  # between two looks at the predictions of the last hour, which are many
_SILENT_SECONDS = 30.0  # after which a learner does not run
_LOOK_SECONDS = 1.0  # between two looks at what is published


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
        "limited": counts.limited,
        "refused": counts.refused,
        "skipped": learner.num_skipped,
        "freezes": learner.guard.num_freezes,
        "rows": len(table),
        "evicted": table.num_evicted,
        "expired": table.num_expired,
        "frozen": learner.frozen,
    }


class StatusWriter:
    """Writes the file now and then.

    Args:
        folder: of the model.
        publish: is given the content, too, and for how many seconds it counts.
        clock: gives the Unix time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        publish: Callable[[bytes, float], None] = lambda content, kept_seconds: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._publish, self._clock = folder / _NAME, publish, clock
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
        content = json.dumps(status).encode()
        write_atomically(self._path, content)
        self._publish(content, _SILENT_SECONDS)
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


class PublishedStatus:
    """What a learner on another machine says of itself. Looks in a thread, as the server may be
    slow to answer, or away.

    Args:
        clock: gives seconds that grow. The learner's clock may differ from that of this machine, so
            the server counts the seconds for which what was said counts.
    """

    def __init__(self, files: RedisFiles, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._files, self._clock = files, clock
        self._said: tuple[dict[str, Any], float] | None = None  # and until when it counts
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> dict[str, Any] | None:
        """What it said last, and whether it `runs`; None where nothing was heard of it yet."""
        said = self._said
        return None if said is None else {**said[0], "runs": self._clock() < said[1]}

    def look(self) -> None:
        """Takes over what it says now; where that is gone, the last that was heard stays."""
        try:
            found = self._files.read_status()
            if found is not None:
                content, left_seconds = found
                self._said = dict(json.loads(content)), self._clock() + left_seconds
        except (RedisUnavailable, ValueError, TypeError) as error:
            logger.info("what the learner says cannot be read: %s", error)

    def start(self) -> None:
        """Begins to look, in a thread, if that has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="learner status", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(_LOOK_SECONDS)
