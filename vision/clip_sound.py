"""A file's sound between two times -> the packets of a clip's sound track."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

from reelseek.vision.decoding.container import open_container, packets

_RATE = 48_000  # samples a second
_RUN_UP_SECONDS = 0.5  # that are decoded before the first sample that is kept
_FIRST_PACKETS = 64  # of pictures, which may be stored in another order than they are shown in


def clip_sound(
    out: OutputContainer, source: Path, *, start_seconds: float, end_seconds: float
) -> Iterator[tuple[float, Packet]]:
    """Adds a track of AAC in stereo to `out`, encoded to the sample.

    Returns:
        Its packets, each with the second to interleave it by; none of a file without sound.
    """
    zero = _first_frame_seconds(source)
    sound = _open_sound(source, zero + start_seconds - _RUN_UP_SECONDS)
    if sound is None:
        return iter(())
    container, stream = sound
    track = out.add_stream("aac", rate=_RATE, layout="stereo")

    def encoded() -> Iterator[Packet]:
        with container:
            first, last = (round((zero + s) * _RATE) for s in (start_seconds, end_seconds))
            for frame in _frames(packets(container, stream), last=last):
                if (kept := _between(frame, first, last)) is not None:
                    yield from track.encode(kept)
            yield from track.encode(None)

    return ((float((packet.dts or 0) * packet.time_base), packet) for packet in encoded())


def _open_sound(source: Path, seconds: float) -> tuple[InputContainer, AudioStream] | None:
    """Opens the sound track near a time of the file's clock; None of a file without sound."""
    for seeks in (True, False):
        container, _ = open_container(source)
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream) or stream.codec_context is None:
            container.close()
            return None
        try:
            if seeks:
                container.seek(int(seconds * av.time_base))
            return container, stream
        except av.FFmpegError:  # FLV and AVI refuse times before their start; read from there
            container.close()
    raise AssertionError("unreachable")


def _first_frame_seconds(source: Path) -> float:
    """When the first picture is shown, by the file's clock."""
    container, stream = open_container(source)
    with container:
        first = islice(packets(container, stream), _FIRST_PACKETS)
        times = [p.pts for p in first if p.size and p.pts is not None and not p.is_discard]
        return float(min(times) * (stream.time_base or 0)) if times else 0.0


def _frames(demuxed: Iterator[Packet], *, last: int) -> Iterator[AudioFrame]:
    """Samples of `_RATE` in stereo, their `pts` counted by the file's clock, up to `last`."""
    resampler = AudioResampler(format="fltp", layout="stereo", rate=_RATE)
    for packet in demuxed:
        try:
            decoded: list = packet.decode()
        except av.FFmpegError:  # damaged
            continue
        for frame in decoded:
            if not isinstance(frame, AudioFrame) or frame.pts is None or frame.time_base is None:
                continue
            for resampled in resampler.resample(frame):
                if resampled.pts is not None and resampled.time_base is not None:
                    # Frames that are of this form already keep the clock of the file.
                    resampled.pts = round(resampled.pts * resampled.time_base * _RATE)
                    resampled.time_base = Fraction(1, _RATE)
                if resampled.pts is not None and resampled.pts >= last:
                    return
                yield resampled


def _between(frame: AudioFrame, first: int, last: int) -> AudioFrame | None:
    """The samples of a frame in `[first, last)`, counted from `first`."""
    assert frame.pts is not None
    begin, end = max(0, first - frame.pts), min(frame.samples, last - frame.pts)
    if begin >= end:
        return None
    kept = AudioFrame.from_ndarray(
        frame.to_ndarray()[:, begin:end].copy(), format="fltp", layout="stereo"
    )
    kept.sample_rate, kept.time_base = _RATE, Fraction(1, _RATE)
    kept.pts = frame.pts + begin - first
    return kept
