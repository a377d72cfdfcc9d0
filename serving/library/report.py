"""An index -> what is in it, what failed and why, and what is missing; without paths."""

import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelseek.indexing.shards.opening import open_catalogue
from reelseek.indexing.store.manifest import Manifest
from reelseek.indexing.store.report import read_report
from reelseek.serving.library.errors import without_paths

MAX_LISTED = 200  # of the failures, and of the missing videos


@dataclass
class IndexReport:
    """The state of an index, for people.

    Attributes:
        num_failed, num_missing: all of them, also those that are not listed.
    """

    videos: int = 0
    segments: int = 0
    generation: int = 0
    num_failed: int = 0
    num_missing: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


class IndexReports:
    """Reads the report of one index, again whenever the index has changed; threads may share it."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._state: Any = None
        self._report = IndexReport()

    def read(self) -> IndexReport:
        """Returns an empty report as long as the index is only being made.

        Raises:
            ValueError: it is damaged.
        """
        with self._lock:
            try:
                state = self._current_state()
                if state is None:
                    return IndexReport()
                if state != self._state:
                    self._report, self._state = self._read(), state
            except ValueError:
                if Manifest.exists(self._index) and not Manifest.read(self._index).generation:
                    return IndexReport()  # the catalogue has no tables yet
                raise
            return self._report

    def _current_state(self) -> Any:
        """Returns None where there is no index yet."""
        if not Manifest.exists(self._index):
            return None
        with closing(open_catalogue(self._index)) as catalogue:
            revision = catalogue.counter("revision")
        files = (Manifest.path(self._index), self._index / "report.jsonl")
        return revision, *(path.stat().st_mtime_ns if path.exists() else 0 for path in files)

    def _read(self) -> IndexReport:
        manifest = Manifest.read(self._index)
        with closing(open_catalogue(self._index)) as catalogue:
            failed = catalogue.matching("outcome = 'failed'", ())
        names = {str(self._index): self._index.name}
        reasons: dict[str, str] = {}
        for record in failed:
            names[record.root_path] = Path(record.root_path).name
            reasons[record.key] = without_paths(record.reason, names)
        missing = []
        for line in read_report(self._index):
            root = line.video.removesuffix(f"/{line.key}")
            names[root] = Path(root).name
            if line.outcome == "missing":
                missing.append(line.key)
            elif line.action == "failed" and not line.id:  # what the catalogue cannot hold
                reasons.setdefault(
                    without_paths(line.key, names), without_paths(line.reason, names)
                )
        listed = sorted(reasons.items())[:MAX_LISTED]
        return IndexReport(
            videos=manifest.num_videos,
            segments=manifest.num_segments,
            generation=manifest.generation,
            num_failed=len(reasons),
            num_missing=len(missing),
            failures=[{"video": key, "reason": reason} for key, reason in listed],
            missing=missing[:MAX_LISTED],
        )
