"""Shards of small pictures and videos of one colour each, and broken ones."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import write_colours

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "cyan": (30, 210, 210),
    "magenta": (210, 30, 210),
    "orange": (240, 130, 20),
    "white": (240, 240, 240),
}
NUM_SHARDS, SHARD_SAMPLES = 20, 8


def write_shard(path: Path, files: Iterable[tuple[str, bytes | str]]) -> Path:
    """Writes a tar of `(name, content)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            content = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def picture(colour: tuple[int, int, int], *, size: tuple[int, int] = (40, 36)) -> bytes:
    width, height = size
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), colour, np.uint8)).save(file, "png")
    return file.getvalue()


def video(folder: Path, colour: tuple[int, int, int], *, num_frames: int = 4) -> bytes:
    path = write_colours(folder / "video.mp4", [colour] * num_frames, size=(32, 32))
    content = path.read_bytes()
    path.unlink()
    return content


def write_shards(
    folder: Path, *, num_shards: int = NUM_SHARDS, broken: Iterable[tuple[int, int]] = ()
) -> Path:
    """Writes `folder/{0000..}.tar`: each eighth sample is a video, the others are pictures, and
    each is of another shade. Samples `(shard, index)` of `broken` are no picture."""
    broken = set(broken)
    videos = [video(folder, colour) for colour in COLOURS.values()]
    for shard in range(num_shards):
        files: list[tuple[str, bytes | str]] = []
        for index, (name, colour) in enumerate(COLOURS.items()):
            content = picture(tuple(max(0, level - shard) for level in colour))  # type: ignore[arg-type]
            suffix = "png"
            if index == shard % SHARD_SAMPLES:
                content, suffix = videos[index], "mp4"
            if (shard, index) in broken:
                content = b"no picture" * 9
            files += [
                (f"{index:04d}.{suffix}", content),
                (f"{index:04d}.txt", f"a {name} wall {shard}\nthe colour {name}\n"),
            ]
        write_shard(folder / f"{shard:04d}.tar", files)
    return folder
