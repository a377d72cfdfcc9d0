"""The second decoder: against the first where both read, and alone where only it does."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from indexing.pipeline import encode_videos
from tests.conftest import COLOURS
from vision import Preprocessing, UniformSampler, VideoDecodeError, iter_frames, open_video
from vision.decord_reader import DecordReader
from vision.pyav_reader import PyAVReader

RED, GREEN, BLUE = COLOURS.values()
PREPROCESSING = Preprocessing(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)


def mean_colours(frames):
    return frames.float().mean(dim=(2, 3)).numpy()


@pytest.mark.parametrize("trust_packets", [True, False])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_agrees_with_decord(write_video, name, trust_packets):
    times = [0.0, 0.1, 0.2, 0.9, 1.0, 1.1, 2.5, 2.6]
    path = write_video(name, [RED, RED, GREEN, GREEN, BLUE, BLUE, RED, GREEN], times_seconds=times)
    decord, pyav = DecordReader(path), PyAVReader(path, trust_packets=trust_packets)
    np.testing.assert_allclose(pyav.times_seconds, decord.times_seconds, atol=0.002)
    np.testing.assert_allclose(pyav.times_seconds, times, atol=0.002)
    indices = [7, 0, 3, 3, 5]  # in any order, repeats too
    np.testing.assert_allclose(
        mean_colours(pyav.read(indices)), mean_colours(decord.read(indices)), atol=3
    )


def test_far_frames_are_reached_by_seeking(write_video):
    colours = [RED] * 300 + [GREEN] + [BLUE] * 299
    reader = PyAVReader(write_video("long.mp4", colours))
    frames = reader.read([599, 300, 0])
    np.testing.assert_allclose(mean_colours(frames), [BLUE, GREEN, RED], atol=6)


def test_gif_is_read_though_decord_cannot(tmp_path):
    pictures = [Image.new("RGB", (32, 32), colour) for colour in (RED, GREEN, BLUE)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=500)
    reader = open_video(tmp_path / "a.gif")
    assert isinstance(reader, PyAVReader)
    np.testing.assert_allclose(reader.times_seconds, [0.0, 0.5, 1.0], atol=0.01)
    np.testing.assert_allclose(mean_colours(reader.read([0, 1, 2])), [RED, GREEN, BLUE], atol=6)


def test_raw_stream_without_times_has_those_of_its_rate(write_video, tmp_path):
    source = write_video("a.mp4", [RED] * 5 + [GREEN] * 5)
    raw = tmp_path / "a.h264"
    with av.open(str(source)) as inside, av.open(str(raw), "w", format="h264") as outside:
        stream = outside.add_stream_from_template(inside.streams.video[0])
        for packet in inside.demux(video=0):
            if packet.size:
                packet.stream = stream
                outside.mux(packet)
    reader = open_video(raw)
    assert len(reader.times_seconds) == 10
    assert (np.diff(reader.times_seconds) > 0).all()
    np.testing.assert_allclose(mean_colours(reader.read([9, 0])), [GREEN, RED], atol=6)


def test_file_cut_in_the_middle_is_partial(tmp_path, colour_encoder):
    rng = np.random.default_rng(0)
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"g": "5"}
        for _ in range(60):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (video,) = encode_videos([(0, path)], encoder=colour_encoder, sampler=UniformSampler(12))
    assert video.outcome == "partial"
    assert len(video.embeddings) >= 10  # sampled from the half that is there
    assert 2.0 < video.times_seconds.max() < 4.0
    assert "cut off or damaged" in video.reason


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
    import sys

    path = write_video("a.mp4", [RED] * 5)
    monkeypatch.setitem(sys.modules, "decord", None)
    monkeypatch.delitem(sys.modules, "vision.decord_reader")
    assert isinstance(open_video(path), PyAVReader)


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
            for frames in iter_frames(path, sampler=UniformSampler(8), preprocessing=PREPROCESSING):
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
