"""What a service says of itself: a line of JSON for each event in its log, and its metrics.

Metrics of all workers are added up in files of a folder that `PROMETHEUS_MULTIPROC_DIR` names.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from reelseek.indexing.store.manifest import Manifest

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = Counter("reelseek_requests", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "reelseek_request_seconds",
    "From the request's head to the answer's end",
    ["route"],
    buckets=_SECONDS,
)
STAGE_SECONDS = Histogram(
    "reelseek_stage_seconds", "Stages of a search", ["stage"], buckets=_SECONDS
)
SHED = Counter("reelseek_shed", "Searches turned away because too many waited")
WAITING = Gauge(
    "reelseek_waiting_searches", "Searches that wait for their turn", multiprocess_mode="livesum"
)
CACHE = Counter("reelseek_cache", "Look-ups in a cache", ["cache", "result"])


class _LeastGauge:
    """A gauge of the process that is furthest behind; a process has it once it has set it.

    The helpers, which never do, and workers that are starting would have 0, and be the least.
    """

    def __init__(self, name: str, documentation: str) -> None:
        self._name, self._documentation = name, documentation
        self._gauge: Gauge | None = None
        self._lock = threading.Lock()

    def set(self, value: float) -> None:
        with self._lock:
            if self._gauge is None:
                self._gauge = Gauge(self._name, self._documentation, multiprocess_mode="livemin")
        self._gauge.set(value)


GENERATION = _LeastGauge("reelseek_index_generation", "Of the index, that a worker answers from")
VIDEOS = Gauge("reelseek_index_videos", "Searchable videos", multiprocess_mode="livemax")
RECALL = Gauge(
    "reelseek_index_recall",
    "Share of the true ten nearest that a search finds, by the queries it was measured with",
    ["queries"],
    multiprocess_mode="livemin",
)


def _learner_gauge(name: str, documentation: str) -> Gauge:
    # Workers read the same file: what the last one read counts.
    return Gauge(f"reelseek_learner_{name}", documentation, multiprocess_mode="livemostrecent")


LEARNER = {
    name: _learner_gauge(name, documentation)
    for name, documentation in {
        "up": "Whether the learner has said something in the last half minute",
        "position": "Position in the log of events, up to which is learned",
        "lag_events": "Events in the log that are not learned yet, at most",
        "lag_seconds": "Age of the last event that was learned, where others wait",
        "events_per_second": "Events learned a second, lately",
        "rows": "Rows of the table of ids",
        "frozen": "Whether the model is held at its last good state",
        "auc": "AUC of long views in the last hour, predicted before they were learned",
        "calibration_ratio": "Predicted by observed long views in the last hour",
        "log_loss": "Logarithmic loss of long views in the last hour",
    }.items()
}
LEARNED_POSITION = _LeastGauge(
    "reelseek_learned_position",
    "Position in the log of events, up to which a worker has taken over what was learned",
)


def note_learning(status: Mapping[str, Any]) -> None:
    """Sets what a learner says of itself; see `Personalization.status`."""
    hour = status.get("last_hour") or {}
    calibration = hour.get("calibration") or {}
    found = {
        **{name: status.get(name) for name in LEARNER},
        "up": status.get("runs"),
        "frozen": status.get("frozen") is not None,
        "auc": hour.get("AUC"),
        "calibration_ratio": calibration.get("ratio"),
        "log_loss": calibration.get("log_loss"),
    }
    for name, value in found.items():
        if value is not None:
            LEARNER[name].set(float(value))


def note_index(manifest: "Manifest") -> None:
    """Sets what is known of the index that a worker answers from."""
    GENERATION.set(manifest.generation)
    VIDEOS.set(manifest.num_videos)
    for queries, recall in (manifest.recall or {}).items():
        RECALL.labels(queries).set(recall)


def metrics_text() -> bytes:
    """All workers' metrics, in Prometheus's text format; without a folder for them, those of this
    process."""
    if METRICS_FOLDER not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


class _JsonFormatter(logging.Formatter):
    """A record as a line of JSON, with what `extra={"fields": {...}}` holds."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """Sends this process's log to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(True)
    for name in ("httpx", "httpcore", "watchfiles", "faiss"):
        logging.getLogger(name).setLevel(logging.WARNING)
