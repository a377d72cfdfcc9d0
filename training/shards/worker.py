"""A worker process that loads samples: requests go in, pixels and captions come out of a pipe."""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import torch

from reelseek.indexing.sources.captions import CaptionReader
from reelseek.training.shards.augment import RandomCrop, RandomFrames
from reelseek.training.shards.table import SampleLocation
from reelseek.training.shards.tar import MAX_CAPTION_BYTES, parse_captions
from reelseek.vision import (
    FrameSettings,
    Preprocessing,
    Sampler,
    VideoDecodeError,
    iter_frames,
)
from reelseek.vision.decoding.process import init_worker

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class SampleSettings:
    """What is made of each sample.

    Attributes:
        sampler: chooses the frames of a video.
        preprocessing: of the model.
        decoders: in the order to try them.
        frames_per_video: taken at random of the sampler's; 0 for all.
        min_crop_area: see `RandomCrop`.
        flip: see `RandomCrop`.
    """

    sampler: Sampler
    preprocessing: Preprocessing
    decoders: tuple[str, ...]
    frames_per_video: int = 0
    min_crop_area: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class SampleRequest:
    """Asks for a sample.

    Attributes:
        location: of the sample.
        seed: of its frames, its crop and its caption.
    """

    location: SampleLocation
    seed: int


@dataclass(frozen=True)
class LoadedSample:
    """A sample.

    Attributes:
        frames: `(T, 3, H, W)` uint8.
        caption: one of its captions.
    """

    frames: torch.Tensor
    caption: str


@dataclass(frozen=True)
class BrokenSample:
    """A sample that cannot be loaded, with the reason for users."""

    reason: str


@dataclass(frozen=True)
class Ready:
    """Shows that a worker has started: from now on it is timed."""


def run_worker(
    connection: Connection, settings: SampleSettings, scratch: Path, memory_bytes: int
) -> None:
    """Answers requests until the pipe is closed.

    Args:
        connection: our end of the pipe.
        settings: of the samples.
        scratch: folder of this worker alone, for the file in hand.
        memory_bytes: see `init_worker`.
    """
    init_worker(memory_bytes)
    try:
        connection.send(Ready())
    except OSError:
        return
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        answer = _answer(request, settings, scratch)
        try:
            if isinstance(answer, LoadedSample):
                connection.send((tuple(answer.frames.shape), answer.caption))
                connection.send_bytes(answer.frames.contiguous().numpy().reshape(-1).data)
            else:
                connection.send(answer)
        except OSError:  # nobody is listening any more
            return


def receive_sample(connection: Connection) -> LoadedSample | BrokenSample | Ready:
    """Receives an answer of `run_worker`.

    Raises:
        EOFError, OSError: the worker is dead.
    """
    answer = connection.recv()
    if isinstance(answer, BrokenSample | Ready):
        return answer
    shape, caption = answer
    frames = torch.empty(shape, dtype=torch.uint8)
    connection.recv_bytes_into(frames.numpy().reshape(-1))
    return LoadedSample(frames, caption)


def load_sample(request: SampleRequest, settings: SampleSettings, scratch: Path) -> LoadedSample:
    """Reads and decodes a sample.

    Raises:
        VideoDecodeError: the picture or video cannot be decoded.
        ValueError: it has no usable caption.
        OSError, EOFError: the shard cannot be read, or ends before the sample does.
    """
    location = request.location
    # Decoders seek, and take a file by its path.
    path = scratch / f"sample{PurePosixPath(location.name).suffix.lower()}"
    with location.shard.open("rb") as shard:
        caption = _choose_caption(shard, location, seed=request.seed)
        with path.open("wb") as file:
            _copy(shard, file, offset=location.offset, size_bytes=location.size_bytes)
    crop = RandomCrop(
        settings.preprocessing, settings.min_crop_area, settings.flip, seed=request.seed
    )
    frame_settings = FrameSettings(
        RandomFrames(settings.sampler, settings.frames_per_video, seed=request.seed),
        crop,  # type: ignore[arg-type]  # has all that decoding asks of a Preprocessing
    )
    try:
        chunks = [
            frames.pixels
            for frames in iter_frames(path, frame_settings, decoders=settings.decoders)
        ]
    except VideoDecodeError as error:
        raise VideoDecodeError(str(error).replace(str(path), location.name)) from error
    finally:
        path.unlink(missing_ok=True)
    return LoadedSample(torch.cat(chunks), caption)


def _answer(
    request: SampleRequest, settings: SampleSettings, scratch: Path
) -> LoadedSample | BrokenSample:
    try:
        return load_sample(request, settings, scratch)
    except (VideoDecodeError, ValueError, EOFError) as error:
        return BrokenSample(str(error))
    except OSError as error:
        return BrokenSample(f"cannot be read ({error.strerror or error})")
    except MemoryError:
        return BrokenSample("needs too much memory")
    except Exception as error:  # of a decoder, whose errors are of any type
        return BrokenSample(f"{type(error).__name__}: {error}"[:200])


def _copy(shard: BinaryIO, file: BinaryIO, *, offset: int, size_bytes: int) -> None:
    shard.seek(offset)
    remaining = size_bytes
    while remaining:
        block = shard.read(min(remaining, _BLOCK_BYTES))
        if not block:
            raise EOFError("the shard ends within it")
        file.write(block)
        remaining -= len(block)


def _choose_caption(shard: BinaryIO, location: SampleLocation, *, seed: int) -> str:
    if location.captions_bytes > MAX_CAPTION_BYTES:
        raise ValueError(f"has {location.captions_bytes} bytes of captions, too many")
    shard.seek(location.captions_offset)
    content = shard.read(location.captions_bytes)
    if len(content) < location.captions_bytes:
        raise EOFError("the shard ends within its captions")
    captions = parse_captions(
        content,
        location.captions_ending,
        name=location.name,
        where="its file of captions",
        reader=CaptionReader(location),
    )
    if not captions:
        raise ValueError("has no caption that can be used")
    return captions[int(np.random.default_rng(seed).integers(len(captions)))]
