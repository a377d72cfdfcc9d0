import sys

import numpy as np
import pytest
import torch
from PIL import Image

from reelseek.vision import VideoDecodeError, open_video
from reelseek.vision.decoding.opening import reader_openers
from tests.conftest import COLOURS

RED, GREEN, BLUE = COLOURS.values()


def mean_colours(frames):
    """Of the pairs that a reader gives."""
    return np.stack([frame.float().mean(dim=(1, 2)).numpy() for _, frame in frames])


def names(path, *decoders):
    """How a file would be read, in order, without it being read."""
    openers = reader_openers(path, *([decoders] if decoders else []))
    return [(opener.func.__name__, *opener.keywords.values()) for opener in openers]


def test_frames_have_the_colours_that_were_written(write_video):
    reader = open_video(write_video("a.mp4", [RED] * 5 + [GREEN] * 5 + [BLUE] * 5))
    frames = list(reader.frames([14, 0, 7, 7]))
    assert [index for index, _ in frames] == [0, 7, 14]
    for _, frame in frames:
        assert (frame.dtype, frame.shape) == (torch.uint8, (3, 48, 64))
    np.testing.assert_allclose(mean_colours(frames), [RED, GREEN, BLUE], atol=6)


def test_times_are_presentation_times_of_a_variable_frame_rate(write_video):
    times = [0.0, 0.1, 0.2, 1.2, 1.3, 3.0]
    reader = open_video(write_video("vfr.mp4", [RED] * 6, times_seconds=times))
    np.testing.assert_allclose(reader.times_seconds, times, atol=0.002)
    assert reader.duration_seconds >= 3.0


def test_times_count_from_the_first_frame(write_video):
    times = [5.0 + i / 10 for i in range(10)]
    reader = open_video(write_video("late.mkv", [RED] * 10, times_seconds=times))
    np.testing.assert_allclose(reader.times_seconds, np.arange(10) / 10, atol=0.002)


def test_still_image_is_a_video_of_one_frame_turned_upright(tmp_path):
    image = Image.new("RGB", (40, 20), RED)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif)
    reader = open_video(tmp_path / "photo.jpg")
    assert reader.times_seconds.tolist() == [0.0]
    assert reader.is_key_frame.tolist() == [True]
    assert reader.duration_seconds == 0.0
    ((index, frame),) = reader.frames([0])
    assert (index, frame.shape) == (0, (3, 40, 20))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"not a video" * 100, "it is no video"),
        ("image.png", b"not an image", "not a readable image"),
    ],
)
def test_unreadable_file_says_why(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoDecodeError, match=reason):
        open_video(tmp_path / name)


def test_missing_file_says_so(tmp_path):
    with pytest.raises(VideoDecodeError, match="no such file"):
        open_video(tmp_path / "none.mp4")


def test_pyav_alone_reads_where_no_other_decoder_is_named_first(write_video):
    path = write_video("a.mp4", [RED])
    by_pyav = [("PyAVReader",), ("PyAVReader", False)]
    assert names(path) == by_pyav
    assert names(path, "pyav", "decord") == by_pyav  # what PyAV cannot read is not guessed at
    assert open_video(path).decoder == "pyav"


def test_decord_is_held_against_pyav_unless_it_is_alone(write_video):
    pytest.importorskip("decord", reason="decord has no build here")
    path = write_video("a.mp4", [RED])
    by_pyav = [("PyAVReader",), ("PyAVReader", False)]
    assert names(path, "decord", "pyav") == [("DecordReader", True), *by_pyav]
    assert names(path, "decord") == [("DecordReader", False)]


def test_decord_that_is_not_there_is_passed_over(write_video, monkeypatch):
    path = write_video("a.mp4", [RED])
    monkeypatch.delitem(sys.modules, "reelseek.vision.decoding.decord_reader", raising=False)
    monkeypatch.setitem(sys.modules, "decord", None)
    assert names(path, "decord", "pyav") == [("PyAVReader",), ("PyAVReader", False)]
    with pytest.raises(VideoDecodeError, match="decord, the only decoder chosen, is not installed"):
        reader_openers(path, ["decord"])


def test_image_is_read_by_pillow_alone(tmp_path):
    Image.new("RGB", (40, 20), RED).save(tmp_path / "a.png")
    assert names(tmp_path / "a.png", "decord", "pyav") == [("StillImageReader",)]


def test_video_whose_frames_do_not_decode_is_refused(write_video):
    """The container is sound and every packet is noise."""
    path = write_video("a.mp4", [RED] * 5)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(0).bytes(end - start)
    path.write_bytes(content)
    with pytest.raises(VideoDecodeError, match="frame"):
        open_video(path)
