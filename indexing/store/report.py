"""The outcome of every video of a run, a JSON object a line: `report.jsonl`."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from reelseek.indexing.store.atomic import write_atomically
from reelseek.text import strict_json

logger = logging.getLogger(__name__)

_FILE_NAME = "report.jsonl"
_NUM_REASONS = 3  # in the line about missing videos


@dataclass(frozen=True)
class ReportLine:
    """The outcome of one video.

    Attributes:
        key: its path below its root.
        video: its path.
        action: `indexed`, `unchanged`, `moved`, `failed`, `missing` or `deleted`, in this run.
        outcome: `ok`, `partial` or `failed`, when it was last decoded; `missing` where it is away;
            empty where deleted.
        reason: for people; empty for `ok`.
        decoder: `pyav`, `decord`, or `pillow` for a still image.
        num_frames: encoded frames.
        duration_seconds: of the whole video.
        id: its id in hits; empty where the index does not hold it.
    """

    key: str
    video: str
    action: str
    outcome: str
    reason: str
    decoder: str
    num_frames: int
    duration_seconds: float
    id: str = ""


class Report:
    """The lines of a run."""

    def __init__(self) -> None:
        self._lines: list[tuple[tuple[str, str], ReportLine]] = []

    def add(self, root_and_key: tuple[str, str], line: ReportLine) -> None:
        """Adds the line of the video with this root and key."""
        self._lines.append((root_and_key, line))

    def write(
        self, folder: Path, order: Iterable[tuple[str, str]], ids: Mapping[tuple[str, str], str]
    ) -> None:
        """Replaces the last run's report, whole or not at all.

        Args:
            order: root and key of videos, in the order of their lines; other lines go first.
            ids: of all videos in the index, by root and key.
        """
        numbers = {root_and_key: number for number, root_and_key in enumerate(order)}
        lines = sorted(self._lines, key=lambda each: numbers.get(each[0], -1))
        named = (replace(line, id=ids.get(root_and_key, line.id)) for root_and_key, line in lines)
        write_report(folder, named)

    def warn_of_missing(self) -> None:
        """Logs in one line that videos are away and nothing is lost."""
        reasons = Counter(line.reason for _, line in self._lines if line.outcome == "missing")
        if reasons:
            shown = [f"{reason} ({count})" for reason, count in reasons.most_common(_NUM_REASONS)]
            logger.warning(
                "%d %s missing; what the index holds of them is kept and searched: %s%s",
                reasons.total(),
                "video is" if reasons.total() == 1 else "videos are",
                "; ".join(shown),
                "; ..." if len(reasons) > _NUM_REASONS else "",
            )


def write_report(folder: Path, lines: Iterable[ReportLine]) -> None:
    """Replaces the last run's report, whole or not at all."""
    text = "".join(strict_json.dumps(asdict(line)) + "\n" for line in lines)
    write_atomically(folder / _FILE_NAME, text.encode())


def failures(folder: Path, *, max_num: int) -> list[ReportLine]:
    """Returns the first videos that failed in the last run; none without a readable report."""
    failed = (line for line in read_report(folder) if line.action == "failed")
    return list(islice(failed, max_num))


def read_report(folder: Path) -> Iterator[ReportLine]:
    """Yields the lines of the last run's report; none without a readable report."""
    with suppress(OSError, ValueError, TypeError), (folder / _FILE_NAME).open("rb") as file:
        for text in file:
            yield ReportLine(**strict_json.loads(text))
