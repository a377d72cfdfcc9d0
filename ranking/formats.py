"""Hits -> the text of a file that other programs read: spreadsheets, editors, players."""

import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.ranking.hits import SearchHit
from reelseek.text.urls import as_link

if TYPE_CHECKING:
    from opentimelineio.opentime import TimeRange
    from opentimelineio.schema import Timeline

TIMELINES = ("otio", "edl")
DEFAULT_RATE = 25.0  # frames a second, of a timeline whose videos do not tell

# SMPTE ST 12-1, and 50 and 60 as its doubles.
_TIMECODE_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)

_COLUMNS = (
    *("rank", "id", "key", "video", "score", "confidence", "start_seconds", "end_seconds"),
    *("best_seconds", "duration_seconds", "date"),
)


def check_format(name: str) -> None:
    """Raises a ValueError where a format needs a library that is not installed."""
    needed = {"otio": ["opentimelineio"], "edl": ["opentimelineio", "otio_cmx3600_adapter"]}
    if not all(find_spec(module) for module in needed.get(name, [])):
        raise ValueError(
            f"format={name}: needs opentimelineio: pip install 'reelseek[editing]' (which has no "
            "build for Python 3.14 yet)"
        )


def to_csv(hits: Sequence[SearchHit]) -> str:
    """A row for each hit, below the names of the columns; lines end as RFC 4180 says."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([*_COLUMNS, "title"])
    for hit in hits:
        values = [getattr(hit, name) for name in _COLUMNS]
        writer.writerow([*values, hit.metadata.get("title", "")])
    return file.getvalue()


def to_srt(hits: Sequence[SearchHit]) -> str:
    """A subtitle for each hit, at its seconds in its own video, by time."""
    cues = sorted(hits, key=lambda hit: (hit.start_seconds, hit.rank))
    return "\n".join(
        f"{number}\n{_srt_time(hit.start_seconds)} --> {_srt_time(hit.end_seconds)}\n"
        f"{hit.rank}. {_one_line(hit.key)} ({hit.match})\n"
        for number, hit in enumerate(cues, start=1)
    )


def _srt_time(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    whole, milliseconds = divmod(milliseconds, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"


def to_otio(hits: Sequence[SearchHit], *, name: str, rate: float) -> str:
    """A timeline of the hits, one after the other, as OpenTimelineIO's JSON.

    Args:
        name: of the timeline, such as the query.
        rate: frames a second that times are rounded to.
    """
    from opentimelineio import adapters

    return adapters.write_to_string(_timeline(hits, name=name, rate=rate), "otio_json") + "\n"


def to_edl(hits: Sequence[SearchHit], *, name: str, rate: float) -> str:
    """The same as an edit decision list (CMX 3600), whose times are timecodes."""
    from opentimelineio import adapters

    timeline = _timeline(hits, name=_one_line(name), rate=rate)
    return adapters.write_to_string(timeline, "cmx_3600", rate=rate)


def _timeline(hits: Sequence[SearchHit], *, name: str, rate: float) -> "Timeline":
    from opentimelineio.schema import Clip, ExternalReference, Timeline, Track

    track = Track(name="hits", kind="Video")
    for hit in hits:
        media = ExternalReference(
            target_url=as_link(hit.video),
            available_range=_range(0.0, hit.duration_seconds, rate=rate),
        )
        found = {
            **{"rank": hit.rank, "id": hit.id, "key": hit.key},
            **{"score": hit.score, "confidence": hit.confidence},
        }
        track.append(
            Clip(
                name=_one_line(Path(hit.key).name),
                media_reference=media,
                source_range=_range(hit.start_seconds, hit.end_seconds, rate=rate),
                metadata={"reelseek": found},
            )
        )
    timeline = Timeline(name=name)
    timeline.tracks.append(track)
    return timeline


def _range(start_seconds: float, end_seconds: float, *, rate: float) -> "TimeRange":
    """Whole frames, at least one: what an editor can cut."""
    from opentimelineio.opentime import RationalTime, TimeRange

    start = round(start_seconds * rate)
    return TimeRange(
        RationalTime(start, rate), RationalTime(max(1, round(end_seconds * rate) - start), rate)
    )


def timecode_rate(rate: float) -> float:
    """The nearest of the rates that editing programs know, such as 24000/1001 for 23.97."""
    return min(_TIMECODE_RATES, key=lambda known: abs(known - rate))


def _one_line(text: str) -> str:
    return " ".join(text.split())
