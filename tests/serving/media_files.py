"""Videos in many forms, a colour for each second; and cuts that hang, crash or swell."""

import os
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from reelseek.serving.media.requests import MediaFile, MediaRequest
from reelseek.vision.decoding.file_content import read_content

FPS = 10
SOUND_RATE = 48_000
_PIECE = 1024  # samples
COLOURS = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 200, 30), (200, 30, 200)]


def colour_at(seconds: float) -> tuple[int, int, int]:
    return COLOURS[int(seconds + 1e-6) % len(COLOURS)]


def write_media(
    path: Path,
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    sound: str = "",
    seconds: int = 5,
    size: tuple[int, int] = (64, 48),
    fps: int = FPS,
    container: str | None = None,
) -> Path:
    """Writes `seconds` of one colour each, with a tone in the codec `sound` if it is given."""
    with av.open(str(path), "w", format=container) as out:
        pictures = out.add_stream(codec, rate=fps)
        pictures.width, pictures.height, pictures.pix_fmt = *size, pix_fmt
        if codec == "libx264":
            pictures.options = {"crf": "12", "preset": "ultrafast", "g": "25"}
        else:
            pictures.codec_context.bit_rate = 2_000_000
        tone = out.add_stream(sound, rate=SOUND_RATE, layout="stereo") if sound else None
        heard = 0
        for index in range(seconds * fps):
            picture = np.full((size[1], size[0], 3), colour_at(index / fps), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, fps)
            out.mux(pictures.encode(frame))
            while tone is not None and heard < (index + 1) * SOUND_RATE / fps:
                out.mux(tone.encode(_piece_of_tone(heard)))
                heard += _PIECE
        out.mux(pictures.encode())
        if tone is not None:
            out.mux(tone.encode())
    return path


def _piece_of_tone(start: int) -> av.AudioFrame:
    wave = 0.3 * np.sin(np.arange(start, start + _PIECE) / 20).astype(np.float32)
    piece = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
    piece.sample_rate, piece.pts = SOUND_RATE, start
    return piece


def media_file(path: Path) -> MediaFile:
    content = read_content(path)
    return MediaFile(str(path), content.size_bytes, content.modified_ns, content.sha256)


def mean_colour(image: Path | Image.Image) -> Sequence[float]:
    opened = Image.open(image) if isinstance(image, Path) else image
    return np.asarray(opened.convert("RGB")).reshape(-1, 3).mean(axis=0).tolist()


def cut_or_fail(request: MediaRequest) -> bytes:
    """Stands in for `cutting.cut`: does what the file's name says, and notes each cut beside it."""
    path = Path(request.file.path)
    with path.with_suffix(".cuts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if path.stem == "sleep":
        time.sleep(1000)
    if path.stem == "crash":
        os._exit(3)
    if path.stem == "swell":
        kept = [b"x" * (1 << 20)]
        while True:
            kept.append(b"x" * (40 << 20))
            time.sleep(0.02)
    if path.stem == "slow":
        time.sleep(0.5)
    return path.stem.encode()


def processes(path: Path) -> list[int]:
    """Those that cut a file, in order."""
    noted = path.with_suffix(".cuts")
    return [int(line) for line in noted.read_text().split()] if noted.exists() else []
