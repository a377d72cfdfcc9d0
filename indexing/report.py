"""The outcome of every video of a run, a JSON object a line: `report.jsonl`."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from indexing.atomic import write_atomically
from text import strict_json

_FILE_NAME = "report.jsonl"


@dataclass(frozen=True)
class ReportLine:
    """One video.

    Attributes:
        key: its identity in the index.
        video: its path.
        action: `indexed`, `unchanged`, `moved`, `failed` or `deleted`, in this run.
        outcome: `ok`, `partial` or `failed`, when it was last decoded; empty where deleted.
        reason: for people; empty for `ok`.
        decoder: that has decoded it: `pyav`, `decord`, or `pillow` for a still image.
        num_frames: that were encoded.
        duration_seconds: of the whole video.
    """

    key: str
    video: str
    action: str
    outcome: str
    reason: str
    decoder: str
    num_frames: int
    duration_seconds: float


def write_report(folder: Path, lines: Iterable[ReportLine]) -> None:
    """Writes the report of a run, whole or not at all, in place of the last run's."""
    text = "".join(strict_json.dumps(asdict(line)) + "\n" for line in lines)
    write_atomically(folder / _FILE_NAME, text.encode())


def failures(folder: Path, *, most: int) -> list[ReportLine]:
    """The first videos that failed in the last run, at most so many; none where the report cannot
    be read."""
    found: list[ReportLine] = []
    with suppress(OSError, ValueError, TypeError), (folder / _FILE_NAME).open("rb") as file:
        for text in file:
            line = ReportLine(**strict_json.loads(text))
            if line.action == "failed" and len(found) < most:
                found.append(line)
    return found
