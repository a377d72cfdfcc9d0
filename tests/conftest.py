"""Videos with known colours at known times, a model that sees only colour, and the real `mini`."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import reelseek.vision.decoding.frames
from reelseek.vision import (
    DualEncoder,
    FailedVideo,
    FileContent,
    FrameEncoder,
    Frames,
    FrameSettings,
    ModelSpec,
    Preprocessing,
    ResumePoint,
    Sampler,
    VideoDecodeError,
    load_model,
    read_content,
)
from reelseek.vision.decoding.file_content import why_unreadable

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# Processes of pytest-xdist, and what tests start, share the cores.
_NUM_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _NUM_PROCESSES > 1:
    _NUM_THREADS = max(1, (os.cpu_count() or 1) // _NUM_PROCESSES)
    os.environ.setdefault("OMP_NUM_THREADS", str(_NUM_THREADS))
    torch.set_num_threads(_NUM_THREADS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, or one process would be left alone with them at the end."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips to measure on, which are not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data are not there: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def mini() -> DualEncoder:
    """The real default model, from the user's cache, assembled if this is its first use."""
    return load_model(ModelSpec("mini", scripts=("Latin",)))


@pytest.fixture(scope="session")
def mini_fast() -> DualEncoder:
    """The real small model, for tests that any real model serves: it loads in a tenth the time."""
    return load_model(ModelSpec("mini_fast", scripts=("Latin",)))


def write_colours(
    path: Path,
    colours: Sequence[tuple[int, int, int]],
    *,
    times_seconds: Sequence[float] | None = None,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
) -> Path:
    """Writes a video whose frame i is one colour and is shown from `times_seconds[i]` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "10", "preset": "ultrafast", "g": "5"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for i, colour in enumerate(colours):
            seconds = i / fps if times_seconds is None else times_seconds[i]
            picture = np.full((height, width, 3), colour, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """`write_colours` into a folder of this test."""

    def write(
        name: str,
        colours: Sequence[tuple[int, int, int]],
        *,
        folder: Path | None = None,
        **options: Any,
    ) -> Path:
        return write_colours((folder or tmp_path) / name, colours, **options)

    return write


class MeanColour(torch.nn.Module):
    """An image tower: `(T, 3, H, W)` to `(T, 3)`, the mean colour."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean(dim=(2, 3))


class ColourClip(torch.nn.Module):
    """A dual encoder of three dimensions: how red, how green, how blue."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = MeanColour()

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """`(B, L)` to `(B, 3)`: the colours named, out of those that `tokenize_colours` knows."""
        return F.one_hot(tokens, 4).float().sum(dim=1)[:, 1:]


def tokenize_colours(sentences: Sequence[str], context_length: int = 8) -> torch.Tensor:
    """Colour names as tokens 1, 2, 3; 0 pads."""
    known = {name: token for token, name in enumerate(COLOURS, start=1)}
    tokens = torch.zeros(len(sentences), context_length, dtype=torch.int64)
    for row, sentence in zip(tokens, sentences, strict=True):
        found = [known[word] for word in sentence.lower().split() if word in known]
        row[: min(len(found), context_length)] = torch.tensor(found[:context_length])
    return tokens


def make_colour_model() -> DualEncoder:
    """A model whose answers can be worked out by hand."""
    return DualEncoder(
        spec=ModelSpec("colours", scripts=("Latin",)),
        clip=ColourClip().eval(),
        tokenize=tokenize_colours,
        context_length=8,
        embedding_dim=3,
        preprocessing=Preprocessing(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        fingerprint="c0105" * 6 + "00",
    )


@pytest.fixture
def colour_model() -> DualEncoder:
    return make_colour_model()


@pytest.fixture
def colour_encoder(colour_model: DualEncoder) -> FrameEncoder:
    return FrameEncoder(colour_model, device="cpu", precision="fp32")


class InProcessPool:
    """Stands in for a `DecodePool`: decodes in this process, one video after the other.

    Args:
        settings: what is to come of each video.
        iter_frames: called with a path, the settings and `decoders`; another one for tests that
            watch or change what is decoded. What it raises besides VideoDecodeError is raised.
    """

    def __init__(
        self,
        settings: FrameSettings,
        *,
        iter_frames: Callable[..., Iterator[Frames]] = reelseek.vision.decoding.frames.iter_frames,
    ) -> None:
        self.settings = settings
        self.iter_frames = iter_frames

    def decode(
        self,
        videos: Iterable[tuple[Any, Path] | None],
        *,
        stopped: threading.Event | None = None,
        sampler_of: Callable[[Any], Sampler] | None = None,
        admit: Callable[[Any, FileContent], ResumePoint | None] | None = None,
    ) -> Iterator[tuple[Any, Frames | FailedVideo]]:
        """Yields what `DecodePool.decode` does."""
        for video in videos:
            if video is None:
                time.sleep(0.01)
                continue
            tag, path = video
            decoder = ""
            settings = self.settings
            resume: ResumePoint | None = ResumePoint()
            if admit is not None:
                try:
                    resume = admit(tag, read_content(path))
                except VideoDecodeError as error:
                    yield tag, FailedVideo(str(error))
                    continue
                except OSError as error:
                    yield tag, FailedVideo(why_unreadable(error))
                    continue
                if resume is None:
                    continue
            assert resume is not None
            where = {"after_seconds": resume.after_seconds, "num_before": resume.num_before}
            if sampler_of is not None:
                settings = replace(settings, sampler=sampler_of(tag))
            try:
                for frames in self.iter_frames(path, settings, decoders=("pyav",), **where):
                    if stopped is not None and stopped.is_set():
                        return
                    decoder = "pyav" if len(frames.times_seconds) else decoder
                    yield tag, frames
            except VideoDecodeError as error:
                yield tag, FailedVideo(str(error), decoder)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[None]:
    """Reports of tests of names that are no UTF-8 hold halves of characters, which pytest-xdist
    cannot send."""
    report = yield
    return _sendable(report)


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_sendable(key): _sendable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_sendable(each) for each in value)
    return value
