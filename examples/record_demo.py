"""`python examples/record_demo.py`: the moving picture of a search that the README opens with.

It indexes the sample clips and the film of `examples/demo_media.py`, asks three questions with the
model `mini`, and draws what was found: `docs/search.webp`. Everything else it makes is in `demo/`.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from demo_media import join_clips, make_clips
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from reelseek import Searcher  # noqa: E402
from reelseek.ranking.hits import SearchHit, clock  # noqa: E402
from reelseek.vision import frame_indices_at, open_video  # noqa: E402

DEMO = ROOT / "demo"
OUTPUT = ROOT / "docs" / "search.webp"
QUERIES = ("people on bicycles", "a cup of coffee on a table", "a cat looks into the camera")

# Pixels.
_WIDTH, _HEIGHT, _MARGIN = 800, 312, 16
_CARD_WIDTH = (_WIDTH - 4 * _MARGIN) // 3
_PICTURE = (_CARD_WIDTH, _CARD_WIDTH * 9 // 16)
_CARDS_TOP = 76
_BACKGROUND, _CARD, _BAR = (17, 20, 26), (29, 34, 43), (60, 68, 82)
_TEXT, _FAINT, _ACCENT = (235, 238, 243), (150, 160, 175), (255, 176, 46)

_FPS = 8
_SECONDS_PLAYED = 3.5
_LETTERS_PER_FRAME = 2
_MAX_BYTES = 2_000_000


@dataclass
class Card:
    """A hit as it is drawn.

    Attributes:
        pictures: frames of the moment, in order, at `_FPS`.
    """

    hit: SearchHit
    pictures: list[Image.Image] = field(default_factory=list)


def main() -> None:
    frames = [frame for query, cards in _answers() for frame in _scene(query, cards)]
    frames[0].save(
        OUTPUT,
        save_all=True,
        append_images=frames[1:],
        duration=1000 // _FPS,
        loop=0,
        quality=45,
        method=6,
        minimize_size=True,
    )
    size_bytes = OUTPUT.stat().st_size
    print(f"{OUTPUT}: {len(frames)} frames, {size_bytes / 1000:.0f} kB")
    if size_bytes > _MAX_BYTES:
        sys.exit(f"larger than {_MAX_BYTES / 1e6:.0f} MB")


def _answers() -> list[tuple[str, list[Card]]]:
    """Each query with the three best moments of the sample media."""
    make_clips(DEMO / "clips")
    join_clips(DEMO / "clips", DEMO / "film" / "film.mp4")
    subprocess.run(
        [sys.executable, "-m", "indexing", f"videos=[{DEMO / 'clips'},{DEMO / 'film'}]",
         f"index={DEMO / 'index-recording'}", "model=mini"],
        check=True, cwd=ROOT,
    )  # fmt: skip
    searcher = Searcher.open(DEMO / "index-recording")
    return [
        (query, [_card(hit) for hit in searcher.search(query, k=3, level="moment")])
        for query in QUERIES
    ]


def _card(hit: SearchHit) -> Card:
    """A hit with the frames of its moment, which begins again where it is short."""
    reader = open_video(Path(hit.video))
    length = max(hit.end_seconds - hit.start_seconds, 1 / _FPS)
    seconds = hit.start_seconds + np.arange(int(_SECONDS_PLAYED * _FPS)) / _FPS % length
    shown = frame_indices_at(reader.times_seconds, seconds).tolist()
    decoded = {
        index: _fitted(Image.fromarray(frame.permute(1, 2, 0).numpy()))
        for index, frame in reader.frames(sorted(set(shown)))
    }
    return Card(hit, [decoded[index] for index in shown if index in decoded])


def _fitted(picture: Image.Image) -> Image.Image:
    """A picture scaled to fill a card's picture, cut from its middle."""
    scale = max(_PICTURE[0] / picture.width, _PICTURE[1] / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    left, top = (size[0] - _PICTURE[0]) // 2, (size[1] - _PICTURE[1]) // 2
    box = (left, top, left + _PICTURE[0], top + _PICTURE[1])
    return picture.resize(size, Image.Resampling.LANCZOS).crop(box)


def _scene(query: str, cards: list[Card]) -> Iterator[Image.Image]:
    """The query being typed, then its hits, each playing the moment that was found."""
    for num_letters in range(0, len(query) + _LETTERS_PER_FRAME, _LETTERS_PER_FRAME):
        yield _drawn(query[:num_letters], [], 0)
    for i in range(int(_SECONDS_PLAYED * _FPS)):
        yield _drawn(query, cards, i)


def _drawn(typed: str, cards: list[Card], i: int) -> Image.Image:
    image = Image.new("RGB", (_WIDTH, _HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(image)
    box = (_MARGIN, _MARGIN, _WIDTH - _MARGIN, _CARDS_TOP - _MARGIN)
    draw.rounded_rectangle(box, 8, fill=_CARD)
    cursor = "" if cards else "|"
    middle = (_MARGIN + 14, (box[1] + box[3]) // 2)
    draw.text(middle, f"{typed}{cursor}", font=_font(20), fill=_TEXT, anchor="lm")
    for rank, card in enumerate(cards):
        _draw_card(image, card, i, left=_MARGIN + rank * (_CARD_WIDTH + _MARGIN))
    return image


def _draw_card(image: Image.Image, card: Card, i: int, *, left: int) -> None:
    """Draws the picture, the moment on a bar as long as the video, and what it is."""
    draw = ImageDraw.Draw(image)
    hit = card.hit
    bottom = _CARDS_TOP + _PICTURE[1]
    card_box = (left, _CARDS_TOP, left + _CARD_WIDTH, _HEIGHT - _MARGIN)
    draw.rounded_rectangle(card_box, 8, fill=_CARD)
    if card.pictures:
        image.paste(card.pictures[i % len(card.pictures)], (left, _CARDS_TOP))

    bar = (left + 10, bottom + 14, left + _CARD_WIDTH - 10, bottom + 20)
    pixels_per_second = (bar[2] - bar[0]) / max(hit.duration_seconds, 1e-6)
    start = bar[0] + hit.start_seconds * pixels_per_second
    end = max(start + 3, bar[0] + hit.end_seconds * pixels_per_second)
    draw.rectangle(bar, fill=_BAR)
    draw.rectangle((start, bar[1], end, bar[3]), fill=_ACCENT)
    length = max(hit.end_seconds - hit.start_seconds, 1 / _FPS)
    head = start + i / _FPS % length * pixels_per_second
    draw.rectangle((head - 1, bar[1] - 4, head + 1, bar[3] + 4), fill=_TEXT)

    span = f"{clock(hit.start_seconds)} to {clock(hit.end_seconds)}"
    draw.text((bar[0], bottom + 32), Path(hit.key).name, font=_font(16), fill=_TEXT)
    draw.text((bar[0], bottom + 56), f"{span} of {clock(hit.duration_seconds)}", font=_font(14),
              fill=_FAINT)  # fmt: skip
    if hit.confidence is not None:
        match = f"{hit.confidence:.0%}"
        draw.text((bar[2], bottom + 32), match, font=_font(16), fill=_ACCENT, anchor="ra")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


if __name__ == "__main__":
    main()
