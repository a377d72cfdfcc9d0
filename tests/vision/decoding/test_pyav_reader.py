"""What a reader gives, against everything decoded plainly from the file's beginning."""

import sys
from itertools import count
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from reelseek.vision import (
    FrameSettings,
    Preprocessing,
    UniformSampler,
    VideoDecodeError,
    frame_indices_at,
    iter_frames,
    open_video,
)
from reelseek.vision.decoding.pyav_reader import PyAVReader
from tests.conftest import COLOURS
from tests.vision.conftest import decode_plainly, textured_pictures

RED, GREEN, BLUE = COLOURS.values()
PREPROCESSING = Preprocessing(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
SETTINGS = FrameSettings(UniformSampler(8), PREPROCESSING)

B_FRAMES = {"bf": "3", "b_strategy": "0", "g": "25"}
FILES = [
    ("a.mp4", "libx264", B_FRAMES),
    ("a.mkv", "libx264", B_FRAMES),
    ("a.ts", "libx264", B_FRAMES),
    ("a.flv", "libx264", B_FRAMES),
    ("open.mp4", "libx264", B_FRAMES | {"x264-params": "open-gop=1", "sc_threshold": "0"}),
    ("long.mp4", "libx264", {"bf": "3", "g": "1000", "sc_threshold": "0"}),
    ("long.ts", "libx264", {"bf": "3", "g": "1000", "sc_threshold": "0"}),
    ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=25:open-gop=1"}),
    ("a.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "20"}),
    ("part2.avi", "mpeg4", {"g": "12"}),
    ("h264.avi", "libx264", B_FRAMES),  # its packets' times are not those of its frames
    ("a.mpg", "mpeg2video", {"bf": "2", "g": "12"}),  # packets without times of their own
    ("a.h264", "libx264", B_FRAMES),  # no times at all
]
REQUESTS = [
    list(range(70)),
    list(range(0, 70, 7)),
    list(range(1, 70, 2)),
    [33],
    [34, 35],
    [36],  # the next one after a request of its own
    [69, 40, 41, 3, 3, 0],  # in any order, repeats too
    [68],
    [1],
]


def mean_colours(frames):
    """Of the pairs that a reader gives."""
    return np.stack([frame.float().mean(dim=(1, 2)).numpy() for _, frame in frames])


@pytest.mark.parametrize("trust_packets", [True, False], ids=["packets", "decoded"])
@pytest.mark.parametrize(
    ("name", "codec", "options"), FILES, ids=[f"{name}-{codec}" for name, codec, _ in FILES]
)
def test_any_request_gives_the_frames_that_decoding_it_all_gives(
    write_pictures, name, codec, options, trust_packets
):
    path = write_pictures(name, textured_pictures(70), codec=codec, options=options)
    plain = [pixels for _, pixels in decode_plainly(path)]
    assert len(plain) == 70
    reader = PyAVReader(path, trust_packets=trust_packets)
    wrong = []
    for request in REQUESTS:
        given = list(reader.frames(request))
        if [index for index, _ in given] != sorted(set(request)):
            wrong.append((request[:3], "missing", set(request) - {index for index, _ in given}))
        for index, frame in given:
            if not np.array_equal(frame.permute(1, 2, 0), plain[index]):
                wrong.append((request[:3], "wrong", index))
    assert not wrong


def test_request_that_is_given_up_does_not_hurt_the_next(write_pictures):
    path = write_pictures("a.mp4", textured_pictures(40), options=B_FRAMES)
    plain = [pixels for _, pixels in decode_plainly(path)]
    reader = PyAVReader(path)
    given_up = reader.frames(range(0, 40, 3))
    assert [next(given_up)[0] for _ in range(4)] == [0, 3, 6, 9]
    for index in (10, 9, 39, 0):
        ((_, frame),) = reader.frames([index])
        np.testing.assert_array_equal(frame.permute(1, 2, 0), plain[index])
    assert list(reader.frames([])) == []


@pytest.mark.parametrize("trust_packets", [True, False])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_times_and_colours_are_those_that_were_written(write_video, name, trust_packets):
    times = [0.0, 0.1, 0.2, 0.9, 1.0, 1.1, 2.5, 2.6]
    colours = [RED, RED, GREEN, GREEN, BLUE, BLUE, RED, GREEN]
    reader = PyAVReader(
        write_video(name, colours, times_seconds=times), trust_packets=trust_packets
    )
    np.testing.assert_allclose(reader.times_seconds, times, atol=0.002)
    frames = list(reader.frames([7, 0, 3, 3, 5]))
    assert [index for index, _ in frames] == [0, 3, 5, 7]
    np.testing.assert_allclose(mean_colours(frames), [RED, GREEN, BLUE, GREEN], atol=6)


def test_far_frames_are_reached_by_seeking(write_video, monkeypatch):
    colours = [RED] * 300 + [GREEN] + [BLUE] * 299
    reader = PyAVReader(write_video("long.mp4", colours))
    decoded = []
    decode = reader._decode

    def watched(*arguments):
        for key, frame in decode(*arguments):
            decoded.append(key)
            yield key, frame

    monkeypatch.setattr(reader, "_decode", watched)
    frames = reader.frames([599, 300, 0])
    np.testing.assert_allclose(mean_colours(frames), [RED, GREEN, BLUE], atol=6)
    assert len(decoded) <= 1 + 5 + 5  # a key frame every 5


def test_gif_is_read(tmp_path):
    pictures = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=500)
    reader = open_video(tmp_path / "a.gif")
    assert isinstance(reader, PyAVReader)
    np.testing.assert_allclose(reader.times_seconds, [0.0, 0.5, 1.0], atol=0.01)
    np.testing.assert_allclose(mean_colours(reader.frames([0, 1, 2])), [RED, GREEN, BLUE], atol=6)


def test_raw_stream_without_times_has_those_of_its_rate(write_pictures):
    pictures = [np.full((48, 64, 3), colour, np.uint8) for colour in [RED] * 5 + [GREEN] * 5]
    reader = open_video(write_pictures("a.h264", pictures, options={"crf": "10"}))
    np.testing.assert_allclose(np.diff(reader.times_seconds), 0.1)
    assert reader.duration_seconds == pytest.approx(1.0)
    np.testing.assert_allclose(mean_colours(reader.frames([9, 0])), [RED, GREEN], atol=6)


# Damage.


def damaged(path, rng):
    """In turn: a stretch of zeros, flipped bits, an end cut off, a stretch cut out."""
    content = path.read_bytes()
    size = len(content)
    for kind in range(8):
        # Somewhere in the middle, and long enough for several frames.
        start = int(rng.integers(size // 5, size * 3 // 5))
        end = start + int(rng.integers(20, size // 4))
        broken = bytearray(content)
        if kind % 4 == 0:
            broken[start:end] = bytes(end - start)
        elif kind % 4 == 1:
            for position in rng.integers(start, end, 5):
                broken[position] ^= 1 << int(rng.integers(8))
        elif kind % 4 == 2:
            del broken[start:]
        else:
            del broken[start:end]
        target = path.with_name(f"{kind}-{path.name}")
        target.write_bytes(broken)
        yield target


@pytest.mark.parametrize("trust_packets", [True, False], ids=["packets", "decoded"])
@pytest.mark.parametrize(
    ("name", "codec", "options", "container_options"),
    [
        ("a.mp4", "libx264", {"g": "10", "bf": "0"}, {"movflags": "faststart"}),
        ("a.mp4", "libx264", B_FRAMES, {"movflags": "faststart"}),
        ("a.mkv", "libx264", {"g": "10", "bf": "2"}, {}),
        ("a.ts", "libx264", {"g": "10", "bf": "2"}, {}),
        ("a.avi", "mpeg4", {"g": "10"}, {}),
        ("a.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime", "g": "10"}, {}),
    ],
    ids=["mp4", "mp4-b", "mkv", "ts", "avi", "webm"],
)
def test_damaged_file_never_gives_a_wrong_frame(
    write_pictures, name, codec, options, container_options, trust_packets
):
    whole = write_pictures(
        name,
        textured_pictures(60),
        codec=codec,
        options=options,
        container_options=container_options,
    )
    originals = [pixels for _, pixels in decode_plainly(whole)]
    wrong = []
    for path in damaged(whole, np.random.default_rng(0)):
        try:
            reader = PyAVReader(path, trust_packets=trust_packets)
        except VideoDecodeError:
            continue
        plain = decode_plainly(path)
        num_frames = len(reader.times_seconds)
        for request in (list(range(num_frames)), list(range(0, num_frames, 7)), [17], [25, 31]):
            for index, frame in reader.frames([i for i in request if i < num_frames]):
                pixels = frame.permute(1, 2, 0).numpy()
                key = int(reader._list.keys[index])
                # A key is a time, or a number where the file has no times that make sense.
                numbered = [pts for pts, _ in plain] if reader._list.has_times else count()
                own = [p for number, (_, p) in zip(numbered, plain, strict=False) if number == key]
                if any(np.array_equal(pixels, other) for other in own):
                    continue
                # Or it may be smeared in a way of its own, since what damage is filled up from
                # depends on where decoding began; but it may not be that of another time.
                looks_like = [np.array_equal(pixels, other) for other in originals]
                at = round(reader.times_seconds[index] * 10)
                if any(looks_like) and looks_like.index(True) != at:
                    wrong.append((path.name, request[:3], at, looks_like.index(True)))
    assert not wrong


def test_file_cut_in_the_middle_gives_the_half_that_is_there(write_pictures):
    path = write_pictures(
        "cut.mp4",
        textured_pictures(60),
        options={"g": "5"},
        container_options={"movflags": "faststart"},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    parts = list(iter_frames(path, FrameSettings(UniformSampler(12), PREPROCESSING)))
    times = np.concatenate([part.times_seconds for part in parts])
    assert len(times) >= 10  # sampled from the half that is there
    assert 2.0 < times.max() < 4.0
    assert "cut off or damaged" in parts[-1].end.reason


def test_file_without_a_video_track_says_so(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoDecodeError, match="no video track"):
        open_video(path)


def test_serves_alone_where_decord_is_not_to_be_had(write_video, monkeypatch):
    path = write_video("a.mp4", [RED] * 5)
    monkeypatch.delitem(sys.modules, "reelseek.vision.decoding.decord_reader", raising=False)
    monkeypatch.setitem(sys.modules, "decord", None)
    (frames,) = iter_frames(path, SETTINGS, decoders=("decord", "pyav"))
    assert (len(frames.pixels), frames.end.decoder, frames.end.reason) == (5, "pyav", "")


@pytest.mark.shared
def test_odd_files_give_frames_where_ffmpeg_does(shared_data: Path):
    """201 files as the world makes them; the manifest says from which FFmpeg decodes a frame."""
    lines = (shared_data / "odd" / "MANIFEST.tsv").read_text("utf-8").splitlines()
    header = lines[0].split("\t")
    decodable = next(i for i, name in enumerate(header) if name.startswith("decodable_frames"))
    wrong = []
    for line in lines[1:]:
        fields = line.split("\t")
        path = shared_data / "odd" / fields[0]
        num_frames, reason = 0, ""
        try:
            for frames in iter_frames(path, SETTINGS):
                num_frames += len(frames.pixels)
        except VideoDecodeError as error:
            reason = str(error)
        promised = int(fields[decodable] or 0) > 0
        # Pillow reads the animated WebP that FFmpeg does not.
        if promised != (num_frames > 0) and fields[0] != "made/webp_anim.webp":
            wrong.append((fields[0], num_frames, reason))
        if not num_frames and not reason:
            wrong.append((fields[0], num_frames, "no reason"))
    assert not wrong


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_span_has_the_frames_that_the_whole_file_has(write_pictures, name):
    options = {**B_FRAMES, "g": "10"}
    path = write_pictures(name, textured_pictures(200), options=options)
    whole = PyAVReader(path)
    for start, end in ((0.0, 0.0), (7.31, 7.31), (5.0, 6.99), (19.9, 30.0), (99.0, 99.0)):
        part = PyAVReader(path, span=(start, end))
        assert len(part.times_seconds) <= (200 if name == "a.ts" else 10 + 20 + 66)
        moments = np.linspace(start, min(end, start + 3), 5)
        expected, given = (
            [
                (round(float(reader.times_seconds[index]), 6), frame)
                for index, frame in reader.frames(frame_indices_at(reader.times_seconds, moments))
            ]
            for reader in (whole, part)
        )
        assert [seconds for seconds, _ in given] == [seconds for seconds, _ in expected]
        for (_, one), (_, other) in zip(expected, given, strict=True):
            np.testing.assert_array_equal(one, other)
    assert PyAVReader(path, span=(19.0, 25.0)).duration_seconds == pytest.approx(20.0)


def test_large_frames_are_scaled_down_when_converted(write_pictures):
    path = write_pictures("a.mp4", textured_pictures(3, size=(128, 96)))
    ((_, small),) = PyAVReader(path, max_height=48).frames([1])
    ((_, large),) = PyAVReader(path, max_height=96).frames([1])
    assert (small.shape, large.shape) == ((3, 48, 64), (3, 96, 128))
    np.testing.assert_allclose(small.float().mean((1, 2)), large.float().mean((1, 2)), atol=3)
