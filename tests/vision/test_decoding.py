import numpy as np
import pytest
from PIL import Image

from tests.conftest import COLOURS
from vision import VideoDecodeError, open_video

RED, GREEN, BLUE = COLOURS.values()


def mean_colours(frames):
    return frames.float().mean(dim=(2, 3)).numpy()


def test_frames_have_the_colours_that_were_written(write_video):
    reader = open_video(write_video("a.mp4", [RED] * 5 + [GREEN] * 5 + [BLUE] * 5))
    frames = reader.read([0, 7, 14])
    assert frames.shape == (3, 3, 48, 64)
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
    assert reader.read([0]).shape == (1, 3, 40, 20)


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
