from datetime import date

import av
import numpy as np
import pytest
from PIL import Image

from reelseek.vision import FrameSettings, IntervalSampler, Preprocessing, iter_frames
from reelseek.vision.decoding.capture_date import (
    CaptureDate,
    first_credible,
    parse_date,
    read_capture_date,
)

TODAY = date(2026, 11, 27)
APPLE = "com.apple.quicktime.creationdate"


@pytest.fixture
def write_tagged(tmp_path):
    """Writes a video of three frames with these tags."""

    def write(name, tags, **stream_tags):
        path = tmp_path / name
        options = {"movflags": "use_metadata_tags"} if path.suffix in (".mov", ".mp4") else {}
        with av.open(str(path), "w", options=options) as container:
            container.metadata.update(tags)
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.metadata.update(stream_tags)
            for _ in range(3):
                picture = np.zeros((48, 64, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm.mkv"])
def test_creation_time_of_a_container_is_read(write_tagged, name):
    path = write_tagged(name, {"creation_time": "2019-07-14T08:30:05.000000Z"})
    assert read_capture_date(path) == CaptureDate("2019-07-14T08:30:05+00:00", "creation_time")


def test_quicktime_tag_with_the_time_zone_goes_first(write_tagged):
    tags = {"creation_time": "2024-12-31T23:30:00Z", APPLE: "2025-01-01T00:30:00+0100"}
    found = read_capture_date(write_tagged("a.mov", tags))
    assert found == CaptureDate("2025-01-01T00:30:00+01:00", APPLE)


def test_tag_in_other_letters_and_of_a_year_alone(write_tagged):
    assert read_capture_date(write_tagged("a.mkv", {"DATE_RECORDED": "2011-03"})) == CaptureDate(
        "2011-03", "date_recorded"
    )
    assert read_capture_date(write_tagged("b.mkv", {"DATE": "1999"})) == CaptureDate("1999", "date")


@pytest.mark.parametrize(
    "bogus", ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1969-12-31T23:00:00Z"]
)
def test_clock_that_was_never_set_says_nothing(write_tagged, bogus):
    assert read_capture_date(write_tagged("a.mkv", {"creation_time": bogus})) is None
    path = write_tagged("b.mkv", {"creation_time": bogus, "DATE": "2012-05-06"})
    assert read_capture_date(path) == CaptureDate("2012-05-06", "date")


def test_file_without_tags_damaged_or_gone_has_no_date(write_tagged, tmp_path):
    assert read_capture_date(write_tagged("a.mp4", {})) is None
    (tmp_path / "b.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "c.jpg").write_bytes(b"no photo" * 100)
    for name in ("b.mp4", "c.jpg", "gone.mp4", "gone.jpg"):
        assert read_capture_date(tmp_path / name) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2024:05:01 10:00:00", "2024-05-01T10:00:00"),
        ("2024-05-01T10:00:00.123+0200", "2024-05-01T10:00:00+02:00"),
        ("2024-05-01 10:00:00-07", "2024-05-01T10:00:00-07:00"),
        ("2024-05-01T10:00Z", "2024-05-01T10:00:00+00:00"),
        ("2024/05/01 10:00:00 UTC", "2024-05-01T10:00:00+00:00"),
        ("20240501T100000", "2024-05-01T10:00:00"),
        ("20240501", "2024-05-01"),
        ("2024-05", "2024-05"),
        ("2024", "2024"),
        ("2024:05:01 10:00:00\0", "2024-05-01T10:00:00"),
        ("2023-02-29", None),
        ("2024-13-01T00:00:00", None),
        ("2024-05-01T25:00:00", None),
        ("2024-05-01T10:00:00+99:00", None),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("Tuesday", None),
        ("", None),
    ],
)
def test_dates_as_files_write_them(text, said):
    assert parse_date(text) == said


@pytest.mark.parametrize(
    ("text", "is_credible"),
    [
        ("1965-06-01", True),  # a scanned photo
        ("1904", False),
        ("1970", False),
        ("1970-01-02T01:00:00", False),
        ("1970-01-03", True),
        ("1980-01-01 00:00:10", False),
        ("1980-01-06", False),
        ("1980", True),
        ("1601-01-01", False),
        ("2026-11-28T06:00:00+1200", True),
        ("2026-11-29", False),
        ("2027", False),
    ],
)
def test_only_what_a_camera_can_have_said_is_believed(text, is_credible):
    assert (first_credible([("date", text)], today=TODAY) is not None) == is_credible


def write_photo(path, dates):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x8769] = dates
    Image.new("RGB", (40, 30), (220, 30, 30)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_photo_has_the_date_of_its_exif_data_with_the_offset(tmp_path, suffix):
    path = write_photo(
        tmp_path / f"a{suffix}",
        {0x9003: "2015:08:09 23:10:11", 0x9011: "-07:00", 0x9004: "2016:01:01 00:00:00"},
    )
    assert read_capture_date(path) == CaptureDate("2015-08-09T23:10:11-07:00", "DateTimeOriginal")


def test_photo_falls_back_on_its_other_dates(tmp_path):
    dates = {0x9003: "0000:00:00 00:00:00", 0x9004: "2016:01:02 03:04:05"}
    path = write_photo(tmp_path / "a.jpg", dates)
    assert read_capture_date(path) == CaptureDate("2016-01-02T03:04:05", "DateTimeDigitized")
    path = write_photo(tmp_path / "b.jpg", {0x9003: "2016:01:02 03:04:05", 0x9011: "odd"})
    assert read_capture_date(path) == CaptureDate("2016-01-02T03:04:05", "DateTimeOriginal")
    Image.new("RGB", (9, 9)).save(tmp_path / "c.jpg")
    assert read_capture_date(tmp_path / "c.jpg") is None


def test_date_comes_with_the_end_of_a_video(write_tagged):
    path = write_tagged("a.mp4", {"creation_time": "2019-07-14T08:30:05Z"})
    preprocessing = Preprocessing(size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    *_, last = iter_frames(path, FrameSettings(IntervalSampler(0.2), preprocessing))
    assert last.end.captured == CaptureDate("2019-07-14T08:30:05+00:00", "creation_time")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_are_passed_over(tmp_path):
    intact = write_photo(tmp_path / "a.jpg", {0x9003: "2016:01:02 03:04:05"}).read_bytes()
    start = intact.index(b"Exif")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(intact)
        for position in rng.integers(start, start + 100, size=4):
            damaged[position] = rng.integers(256)
        (tmp_path / "b.jpg").write_bytes(damaged)
        found = read_capture_date(tmp_path / "b.jpg")
        assert found is None or parse_date(found.date) == found.date
