"""A file of judgements -> the relevance of videos to queries.

JSON Lines, an object a line, in UTF-8; blank lines are skipped:

    {"query": "a dog catches a frisbee", "video": "dogs/park.mp4", "relevance": 3}
    {"query": "a sunset", "video": "beach.mp4", "clicks": 12, "impressions": 40}

`video` is a key of the index, or the id of a hit. `relevance` is a whole number from 0 (wrong) to 4
(just that). Clicks become one: four times the lower bound of the rate of clicks, rounded up, so
that one click of one impression is no certainty. A ranker orders whole videos, so a judgement with
seconds is refused.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_RELEVANCE = 4
_FIELDS = {"query", "video", "relevance", "clicks", "impressions"}
_SECONDS = ("start_seconds", "end_seconds")
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True)
class Judgement:
    """One line.

    Attributes:
        relevance: 0 to 4.
    """

    query: str
    video: str
    relevance: int


def read_judgements(path: Path) -> list[Judgement]:
    """Reads a file of judgements, in its order.

    Raises:
        ValueError: the file is missing, holds no judgement, or has a malformed line, which is
            named.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    judgements: list[Judgement] = []
    known: dict[tuple, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            judgement = _parse(line)
            pair = (judgement.query, judgement.video)
            if pair in known:
                raise ValueError(f"judges the same as line {known[pair]}: keep one of them")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        known[pair] = number
        judgements.append(judgement)
    if not judgements:
        raise ValueError(
            f"{path}: holds no judgement; each line is like "
            '{"query": "a dog", "video": "a.mp4", "relevance": 3}'
        )
    return judgements


def click_relevance(clicks: int, impressions: int) -> int:
    """Returns the grade of a click rate: four times the lower bound of its 95 % score interval
    (Wilson 1927), rounded up.

    Raises:
        ValueError: clicks that are below 0 or more than impressions.
    """
    if not 0 <= clicks <= impressions:
        raise ValueError(f"clicks={clicks}: must be 0 to impressions={impressions}")
    if not clicks:
        return 0
    rate, z2 = clicks / impressions, _Z * _Z / impressions
    spread = _Z * math.sqrt(rate * (1 - rate) / impressions + z2 / (4 * impressions))
    return math.ceil(MAX_RELEVANCE * (rate + z2 / 2 - spread) / (1 + z2))


def _parse(line: bytes) -> Judgement:
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is no JSON"
        raise ValueError(f"{reason}; write an object a line") from error
    if not isinstance(entry, dict):
        raise ValueError(f"is a {type(entry).__name__}: must be an object")
    for name in _SECONDS:
        if name in entry:
            raise ValueError(
                f"has {name}, and a ranker orders whole videos: judge the video, without seconds"
            )
    if unknown := entry.keys() - _FIELDS:
        raise ValueError(
            f"has an unknown field {min(unknown)!r}: must be of {', '.join(sorted(_FIELDS))}"
        )
    query, video = _text(entry, "query"), _text(entry, "video")
    return Judgement(query, video, _relevance(entry))


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r}: must be a text that is not empty")
    return value


def _relevance(entry: dict[str, Any]) -> int:
    if "relevance" not in entry:
        if "clicks" not in entry or "impressions" not in entry:
            raise ValueError("lacks relevance, or clicks and impressions")
        return click_relevance(_whole(entry, "clicks"), _whole(entry, "impressions"))
    if "clicks" in entry or "impressions" in entry:
        raise ValueError("has relevance and clicks: give one of them")
    relevance = _whole(entry, "relevance")
    if not 0 <= relevance <= MAX_RELEVANCE:
        raise ValueError(f"relevance={relevance}: must be 0 to {MAX_RELEVANCE}")
    return relevance


def _whole(entry: dict[str, Any], name: str) -> int:
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r}: must be a whole number")
    return value
