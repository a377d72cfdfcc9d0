"""The outcome of each video of a run: counted for the summary, and a line of the report."""

from dataclasses import dataclass

from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.report import Report, ReportLine
from reelseek.indexing.store.videos import NewVideo


@dataclass
class IndexSummary:
    """The counts of a run, in videos.

    Attributes:
        indexed: embedded and stored now, because they are new or their content has changed.
        unchanged: already there, with the same content.
        moved: already there under another path, and now known by the new one.
        failed: could not be decoded, now or when last tried.
        deleted: removed from the index: gone from a folder that was given, or pruned.
        missing: on a drive or a list that is away; the index keeps what it holds of them.
        settling: were written to just now, and are left to the next run.
        partial: of those in the index, the ones that decode only in part.
        repeated: of those done on a cluster, the ones of which work was lost and done again.
        searchable: can be found by a search after this run.
        seconds: the run took.
        stopped: whether it was interrupted before all was done.
    """

    indexed: int = 0
    unchanged: int = 0
    moved: int = 0
    failed: int = 0
    deleted: int = 0
    missing: int = 0
    settling: int = 0
    partial: int = 0
    repeated: int = 0
    searchable: int = 0
    seconds: float = 0.0
    stopped: bool = False


class Outcomes:
    """The outcomes so far."""

    def __init__(self) -> None:
        self.summary = IndexSummary()
        self.report = Report()

    def add(
        self,
        item: VideoItem,
        action: str,
        video: NewVideo | None = None,
        *,
        outcome: str | None = None,
        reason: str = "",
    ) -> None:
        """Counts a video and adds its line.

        Args:
            action: a field of `IndexSummary`.
            video: its entry in the index, if there is one.
            outcome: default: that of the entry, or else the action.
            reason: default: that of the entry.
        """
        if outcome is None:
            outcome = action if video is None else video.outcome
        setattr(self.summary, action, getattr(self.summary, action) + 1)
        self.summary.partial += outcome == "partial"
        entry: dict = {"num_frames": 0, "duration_seconds": 0.0, "decoder": ""}
        if video is not None:
            entry = {name: getattr(video, name) for name in entry} | {"id": video.public_id}
            reason = reason or video.reason
        line = ReportLine(item.key, item.address, action, outcome, reason, **entry)
        self.report.add(item.root_and_key, line)
