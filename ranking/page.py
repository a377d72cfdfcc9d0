"""Queries and their hits -> one self-contained web page, a picture of each moment found in it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reelseek.indexing.store.atomic import write_atomically
from reelseek.text.terminal import clock, printable, printable_lines
from reelseek.text.urls import as_link
from reelseek.vision import VideoDecodeError, frame_indices_at, open_video

_THUMBNAIL_WIDTH = 480  # pixels
_IN_NOTEBOOK = 24  # pictures at most, since each is decoded


class ShownHit(Protocol):
    """What the page shows of a `SearchHit`."""

    @property
    def rank(self) -> int: ...
    @property
    def video(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def start_seconds(self) -> float: ...
    @property
    def end_seconds(self) -> float: ...
    @property
    def best_seconds(self) -> float: ...
    @property
    def duration_seconds(self) -> float: ...
    @property
    def metadata(self) -> dict[str, Any]: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def match(self) -> str: ...


@dataclass(frozen=True)
class _Card:
    """A hit as the template shows it."""

    hit: ShownHit
    name: str
    path: str
    match: str  # its probability; empty where it was not worked out
    text: str
    link: str
    span: str
    left_percent: float
    width_percent: float
    thumbnail: str  # JPEG, base64; empty where the video cannot be read any more


def write_page(path: Path, results: Sequence[tuple[str, Sequence[ShownHit]]]) -> None:
    """Writes the page, whole or not at all; nothing in it is fetched from elsewhere.

    Args:
        path: of the HTML file.
        results: queries, in the order to be shown, each with its hits.

    Raises:
        ValueError: the file cannot be written.
    """
    html = page_html(results)
    try:
        write_atomically(path, html.encode("utf-8", "replace"))
    except OSError as error:
        raise ValueError(f"page={path}: cannot be written ({error.strerror})") from error


def page_html(results: Sequence[tuple[str, Sequence[ShownHit]]]) -> str:
    """The page as text; see `write_page`."""
    return _rendered(
        "hits.html",
        results=[
            (printable_lines(query), [_card(hit) for hit in hits], _why_empty(hits))
            for query, hits in results
        ],
    )


def hits_html(hits: Sequence[ShownHit]) -> str:
    """Hits as a piece of HTML for a notebook, with a picture of each of the first few."""
    return _rendered(
        "notebook.html",
        cards=[_card(hit) for hit in hits[:_IN_NOTEBOOK]],
        num_more=max(0, len(hits) - _IN_NOTEBOOK),
        why_empty=_why_empty(hits),
    )


def _rendered(name: str, **values: object) -> str:
    from jinja2 import Environment, select_autoescape

    source = files("reelseek.ranking").joinpath("templates").joinpath(name).read_text("utf-8")
    # File names, titles and captions are data: everything is escaped.
    return (
        Environment(autoescape=select_autoescape(default=True)).from_string(source).render(values)
    )


def _why_empty(hits: Sequence[ShownHit]) -> str:
    return printable(getattr(hits, "why_empty", "") or "nothing matches")


def _card(hit: ShownHit) -> _Card:
    whole = max(hit.duration_seconds, 1e-6)
    captions = hit.metadata.get("captions") or [""]
    return _Card(
        hit=hit,
        name=printable(str(hit.metadata.get("title") or Path(hit.key).name)),
        path=printable(hit.video),
        match="" if hit.confidence is None else hit.match,
        text=printable(str(captions[0])),
        link=f"{as_link(hit.video)}#t={hit.start_seconds:.2f},{hit.end_seconds:.2f}",
        span=f"{clock(hit.start_seconds)}\u2013{clock(hit.end_seconds)}",
        left_percent=100 * hit.start_seconds / whole,
        width_percent=max(100 * (hit.end_seconds - hit.start_seconds) / whole, 1.0),
        thumbnail=_thumbnail(Path(hit.video), hit.best_seconds),
    )


def _thumbnail(path: Path, seconds: float) -> str:
    """The frame on screen at that second, as a JPEG in base64."""
    from PIL import Image

    try:
        reader = open_video(path)
        shown = frame_indices_at(reader.times_seconds, np.array([seconds]))
        _, frame = next(reader.frames(shown.tolist()))  # (3, H, W)
    except (VideoDecodeError, StopIteration):
        return ""
    image = Image.fromarray(frame.permute(1, 2, 0).numpy())
    height = max(1, round(image.height * _THUMBNAIL_WIDTH / image.width))
    buffer = io.BytesIO()
    image.resize((_THUMBNAIL_WIDTH, height)).save(buffer, "JPEG", quality=82)
    return base64.b64encode(buffer.getvalue()).decode()
