"""Videos of textured pictures in many containers, a network that is not there, and a CLIP of a few
weights."""

import json
import socket
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from reelseek.vision import VideoDecodeError
from reelseek.vision.decoding.orientation import square

TINY_CFG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "patch_size": 16,
        "head_width": 16,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


def textured_pictures(count: int, *, size: tuple[int, int] = (64, 48), seed: int = 0) -> np.ndarray:
    """`(count, height, width, 3)` uint8, patches of 8 pixels of random colours, no two alike."""
    width, height = size
    patches = np.random.default_rng(seed).integers(
        0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8
    )
    return patches.repeat(8, axis=1).repeat(8, axis=2)


def decode_plainly(path: Path) -> list[tuple[int | None, np.ndarray]]:
    """The oracle: every frame in the decoder's order, its time in units of the stream and
    `(H, W, 3)` uint8."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        frames = []
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                continue
            frames += [(frame.pts, frame.to_ndarray(format="rgb24")) for frame in decoded]
    return frames


def psnr(one: np.ndarray | torch.Tensor, other: np.ndarray | torch.Tensor) -> float:
    """In dB, of values from 0 to 255."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return float(10 * np.log10(255**2 / max(float(np.square(difference).mean()), 1e-9)))


def set_matrix(path: Path, matrix: np.ndarray) -> None:
    """Writes into an MP4's track header how players are to turn it."""
    values = np.zeros((3, 3), dtype=">i4")
    values[:2, :2], values[2, 2] = np.round(matrix * (1 << 16)), 1 << 30
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") - 4
    end = start + int.from_bytes(content[start : start + 4], "big") - 8  # width and height follow
    content[end - 36 : end] = values.tobytes()
    path.write_bytes(content)


class FakeReader:
    """Frame i is of the level `levels[i]`, by default i, and is shown from `i / 10` on.

    Args:
        missing: frames that do not decode.
        fails_at: the frame at which nothing further decodes.
        shift_seconds: by how much its times differ from those that others give.
    """

    def __init__(
        self,
        num_frames=10,
        *,
        levels=None,
        missing=(),
        fails_at=None,
        decoder="first",
        knows_times=True,
        num_lost_frames=0,
        shift_seconds=0.0,
    ):
        self.levels = list(range(num_frames)) if levels is None else levels
        self.times_seconds = np.arange(len(self.levels)) / 10
        self.times_seconds[1:] += shift_seconds
        self.duration_seconds = len(self.levels) / 10
        self.is_key_frame = np.ones(len(self.levels), dtype=bool)
        self.missing, self.fails_at = set(missing), fails_at
        self.decoder, self.knows_times = decoder, knows_times
        self.num_lost_frames = num_lost_frames
        self.num_decoded = 0

    def frames(self, frame_indices, resize=square):
        for index in sorted(set(frame_indices)):
            if self.fails_at is not None and index >= self.fails_at:
                raise VideoDecodeError(f"{self.decoder} fails")
            if index not in self.missing:
                self.num_decoded += 1
                yield index, resize(self.picture(index), 1.0)

    def picture(self, index):
        level = self.levels[index]
        if isinstance(level, torch.Tensor):
            return level
        return torch.full((3, 24, 24), level, dtype=torch.uint8)


@pytest.fixture
def write_pictures(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video whose frame i is `pictures[i]`, shown from `times_seconds[i]` on."""

    def write(
        name: str,
        pictures: Iterable[np.ndarray],
        *,
        codec: str = "libx264",
        times_seconds: Sequence[float] | None = None,
        fps: int = 10,
        pixel_aspect: Fraction | None = None,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
    ) -> Path:
        path = tmp_path / name
        pictures = list(pictures)
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=fps)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt, stream.options = "yuv420p", options or {}
            if pixel_aspect is not None:
                stream.codec_context.sample_aspect_ratio = pixel_aspect
            unit = Fraction(1, fps if times_seconds is None else 1000)
            if times_seconds is not None:
                stream.codec_context.time_base = unit
            for i, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = i if times_seconds is None else round(times_seconds[i] * 1000)
                frame.time_base = unit
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cuts the network off; the list grows by each address that is asked for nevertheless."""
    calls: list[str] = []

    def refuse(*arguments: object, **options: object) -> None:
        calls.append(str(arguments))
        raise OSError("the network is cut off for this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return calls


@pytest.fixture
def write_tiny_clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder in open_clip's format, its weights random but the same each time."""

    def write(name: str = "tiny", **preprocess_cfg: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            clip = open_clip.CLIP(**TINY_CFG)
        save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
        config = {"model_cfg": TINY_CFG, "preprocess_cfg": preprocess_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        return folder

    return write
