"""What a decoder costs: the same frames of the same files by decord, PyAV, OpenCV and TorchCodec.

    python benchmarks/decoders.py videos=PATH [rounds=5] [num_videos=40]

Each opens a file, finds the frames on screen at the wanted moments, decodes them with one thread,
and squeezes them into 224 x 224 pixels (bicubic, antialiased) by the same function. "reelseek" is
this project's reader with all that it checks. Decoders are interleaved; medians over rounds of the
mean time of a video are printed, in milliseconds, and in how many videos other frames came than
from reelseek (PSNR below 30 dB).

OpenCV and TorchCodec are not dependencies of the project: pip install opencv-python-headless
torchcodec; TorchCodec loads the system's FFmpeg libraries (Debian: apt-get install ffmpeg).
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402
from reelseek.vision import (  # noqa: E402
    IntervalSampler,
    KeyFrameSampler,
    Preprocessing,
    Sampler,
    UniformSampler,
    VideoDecodeError,
)
from reelseek.vision.decoding.pyav_reader import PyAVReader  # noqa: E402

PREPROCESSING = Preprocessing(
    size=(224, 224), mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode="squash"
)
SAMPLERS: dict[str, Sampler] = {
    "uniform 12": UniformSampler(12),
    "every second": IntervalSampler(1.0),
    "key frames": KeyFrameSampler(),
}


class _Timeline:
    """What samplers look at."""

    def __init__(self, times: np.ndarray, duration: float, is_key_frame: np.ndarray) -> None:
        self.times_seconds = times
        self.duration_seconds = duration
        self.is_key_frame = is_key_frame


def resize(frames: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([PREPROCESSING.resize(frame[None]) for frame in frames])


def by_reelseek(path: Path, sampler: Sampler) -> torch.Tensor:
    reader = PyAVReader(path)
    indices = sampler(reader).frame_indices.tolist()
    return torch.stack([frame for _, frame in reader.frames(indices, PREPROCESSING.resize)])


def by_pyav(path: Path, sampler: Sampler) -> torch.Tensor:
    """PyAV as its documentation shows it: decode, and keep what is wanted."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        shown = {p.pts: p.is_keyframe for p in container.demux(stream) if p.pts is not None}
        keys = np.array(sorted(shown))
        times = (keys - keys[0]) * float(stream.time_base)
        gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        is_key = np.array([shown[key] for key in keys.tolist()])
        timeline = _Timeline(times, float(times[-1]) + gap, is_key)
        requested = set(keys[sampler(timeline).frame_indices].tolist())  # type: ignore[arg-type]
        container.seek(0)
        frames = []
        for frame in container.decode(stream):
            if frame.pts in requested:
                pixels = frame.to_ndarray(format="rgb24")
                frames.append(torch.from_numpy(pixels).permute(2, 0, 1))
                if len(frames) == len(requested):
                    break
    return resize(frames)


def by_decord(path: Path, sampler: Sampler) -> torch.Tensor:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    spans = reader.get_frame_timestamp(list(range(len(reader))))
    times = spans[:, 0].astype(np.float64) - spans[0, 0]
    is_key = np.isin(np.arange(len(reader)), reader.get_key_indices())
    timeline = _Timeline(times, float(spans[-1, 1] - spans[0, 0]), is_key)
    indices = sampler(timeline).frame_indices.tolist()  # type: ignore[arg-type]
    batch = torch.from_numpy(reader.get_batch(indices).asnumpy()).permute(0, 3, 1, 2)
    return resize(list(batch))


def by_opencv(path: Path, sampler: Sampler) -> torch.Tensor:
    """OpenCV knows no times but `index / fps`, and no key frames: those are not to be had."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    num_frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
    if isinstance(sampler, KeyFrameSampler):
        raise NotImplementedError
    timeline = _Timeline(np.arange(num_frames) / fps, num_frames / fps, np.ones(num_frames, bool))
    requested = set(sampler(timeline).frame_indices.tolist())  # type: ignore[arg-type]
    frames = []
    for index in range(max(requested) + 1):
        if not capture.grab():
            break
        if index in requested:
            _, picture = capture.retrieve()
            rgb = np.ascontiguousarray(picture[:, :, ::-1])
            frames.append(torch.from_numpy(rgb).permute(2, 0, 1))
    capture.release()
    return resize(frames)


def by_torchcodec(path: Path, sampler: Sampler) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="exact")
    if isinstance(sampler, KeyFrameSampler):
        raise NotImplementedError  # its key frames are not public
    metadata = decoder.metadata
    begin, end = metadata.begin_stream_seconds, metadata.end_stream_seconds
    num_frames = metadata.num_frames
    assert begin is not None and end is not None and num_frames is not None
    # The frame on screen at a moment is what it is asked for: no list of times is needed.
    fine = np.linspace(0, end - begin, 100_000)
    timeline = _Timeline(fine, end - begin, np.ones(len(fine), bool))
    seconds = fine[sampler(timeline).frame_indices] + begin  # type: ignore[arg-type]
    batch = decoder.get_frames_played_at(seconds.tolist())
    return resize(list(batch.data))


DECODERS: dict[str, Callable[[Path, Sampler], torch.Tensor]] = {
    "reelseek": by_reelseek,
    "PyAV": by_pyav,
    "decord": by_decord,
    "OpenCV": by_opencv,
    "TorchCodec": by_torchcodec,
}


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """The least of the frames', in dB."""
    error = (first.float() - second.float()).square().mean(dim=(1, 2, 3)).max().clamp_min(1e-3)
    return float(10 * torch.log10(255**2 / error))


def main() -> None:
    options = parse_options(__doc__, videos=None, rounds="5", num_videos="40")
    rounds = int(options["rounds"])
    items = collect_videos(options["videos"])[: int(options["num_videos"])]
    torch.set_num_threads(1)

    print(f"{len(items)} videos, {rounds} rounds; milliseconds a video, one thread")
    for sampling, sampler in SAMPLERS.items():
        taken: dict[str, list[float]] = {}
        other: dict[str, int] = {}
        num_frames = 0
        for round_number in range(rounds + 1):  # the first warms the file cache up
            spent = dict.fromkeys(DECODERS, 0.0)
            for item in items:
                ours = torch.empty(0)
                for name, decode in DECODERS.items():
                    started = time.perf_counter()
                    try:
                        frames = decode(item.path, sampler)
                    except NotImplementedError:
                        spent.pop(name, None)
                        continue
                    except (ImportError, OSError, RuntimeError, VideoDecodeError) as error:
                        if round_number == 0 and item is items[0]:
                            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                        frames = torch.empty(0)
                    spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
                    if name == "reelseek":
                        ours = frames
                    if round_number == 0:
                        num_frames += len(ours) if name == "reelseek" else 0
                        same = frames.shape == ours.shape and psnr(frames, ours) >= 30
                        other[name] = other.get(name, 0) + (not same)
            if round_number:
                for name, seconds in spent.items():
                    taken.setdefault(name, []).append(1000 * seconds / len(items))
        print(f"{sampling}: {num_frames / len(items):.1f} frames a video")
        for name, values in taken.items():
            print(
                f"  {name:<12} {statistics.median(values):8.1f} ({min(values):.1f}-"
                f"{max(values):.1f})   other frames in {other[name]} videos"
            )


if __name__ == "__main__":
    main()
