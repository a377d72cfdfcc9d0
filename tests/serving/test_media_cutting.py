"""Thumbnails, clips and probes of generated videos whose every second has a colour of its own."""

import io
import os

import av
import numpy as np
import pytest
from PIL import Image

from reelseek.serving.media.cutting import clip, cut, thumbnail
from reelseek.serving.media.errors import (
    MediaChanged,
    MediaMissing,
    MediaOutOfRange,
    MediaUnreadable,
)
from reelseek.serving.media.playing import probe
from reelseek.serving.media.requests import BrowserClip, Probe, Thumbnail
from reelseek.serving.media.types import media_type
from reelseek.vision import open_video
from tests.serving.media_files import colour_at, mean_colour, media_file, write_media
from tests.vision.conftest import set_matrix

# Name, codec, pixel format, sound, media type, whether browsers play it.
FORMS = [
    ("a.mp4", "libx264", "yuv420p", "", "video/mp4", True),
    ("b.mp4", "libx264", "yuv420p", "aac", "video/mp4", True),
    ("c.mp4", "libx264", "yuv420p", "libmp3lame", "video/mp4", True),
    ("d.mp4", "libx264", "yuv420p", "ac3", "video/mp4", False),
    ("e.mp4", "libx264", "yuv444p", "", "video/mp4", False),
    ("f.mp4", "libx264", "yuv420p10le", "", "video/mp4", False),
    ("g.mp4", "libx265", "yuv420p", "aac", "video/mp4", False),
    ("h.mp4", "mpeg4", "yuv420p", "", "video/mp4", False),
    ("a.mov", "libx264", "yuv420p", "aac", "video/mp4", True),
    ("b.mov", "prores_ks", "yuv422p10le", "pcm_s16le", "video/mp4", False),
    ("a.webm", "libvpx", "yuv420p", "libopus", "video/webm", True),
    ("b.webm", "libvpx-vp9", "yuv420p", "libopus", "video/webm", True),
    ("a.mkv", "libx264", "yuv420p", "aac", "video/x-matroska", False),
    ("a.avi", "mpeg4", "yuv420p", "libmp3lame", "video/x-msvideo", False),
    ("a.ts", "libx264", "yuv420p", "aac", "video/mp2t", False),
    ("b.ts", "mpeg2video", "yuv420p", "mp2", "video/mp2t", False),
    ("a.flv", "flv", "yuv420p", "", "video/x-flv", False),
    ("a.wmv", "wmv2", "yuv420p", "", "video/x-ms-asf", False),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes each form once."""
    folder = tmp_path_factory.mktemp("forms")

    def write(name):
        _, codec, pix_fmt, sound, _, _ = next(form for form in FORMS if form[0] == name)
        path = folder / name
        if path.exists():
            return path
        try:
            fps = 25 if codec == "mpeg2video" else 10
            return write_media(path, codec, pix_fmt=pix_fmt, sound=sound, fps=fps)
        except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
            pytest.skip(f"this FFmpeg does not write it: {error}")

    return write


def image_of(content):
    image = Image.open(io.BytesIO(content))
    assert image.format == "JPEG"
    return image


def shown(path):
    """Colour, width and height of each frame, its time, and the streams, of a clip."""
    reader = open_video(path)
    frames = [pixels for _, pixels in reader.frames(range(len(reader.times_seconds)))]
    return reader, [pixels.float().mean(dim=(1, 2)).numpy() for pixels in frames], frames[0].shape


@pytest.mark.parametrize("name", [form[0] for form in FORMS])
def test_probe_goes_by_the_content(written, name):
    *_, sound, kind, plays = next(form for form in FORMS if form[0] == name)
    path = written(name)
    found = probe(path)
    assert (found["type"], found["plays"]) == (kind, plays)
    assert bool(found["audio_codec"]) == bool(sound)
    misnamed = path.with_name(f"{path.stem}-{path.suffix[1:]}.dat")
    os.link(path, misnamed)
    assert probe(misnamed) == found


@pytest.mark.parametrize("name", [form[0] for form in FORMS])
def test_thumbnail_is_the_frame_of_its_second(written, name):
    path = written(name)
    for seconds in (0.0, 1.5, 2.85, 4.25):
        image = image_of(thumbnail(path, seconds, width=32))
        assert image.size == (32, 24)
        assert mean_colour(image) == pytest.approx(colour_at(seconds), abs=25)
    assert image_of(thumbnail(path, 99.0, width=640)).size == (64, 48)  # none are added


@pytest.mark.parametrize(
    "name",
    "b.mp4 d.mp4 f.mp4 g.mp4 b.mov b.webm a.mkv a.avi a.ts b.ts a.flv a.wmv".split(),
)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.2), (1.5, 3.5), (4.3, 9.0)])
def test_clip_is_what_browsers_play_and_has_the_right_frames(written, tmp_path, name, start, end):
    path = written(name)
    content = clip(path, start, end_seconds=end)
    output = tmp_path / "clip.mp4"
    output.write_bytes(content)
    found = probe(output)
    assert (found["plays"], found["type"], found["video_codec"]) == (True, "video/mp4", "h264")
    assert found["audio_codec"] == ("aac" if probe(path)["audio_codec"] else "")
    assert content.index(b"moov") < content.index(b"mdat")
    reader, colours, _ = shown(output)
    lasts = min(end, 5) - start
    assert reader.duration_seconds == pytest.approx(lasts, abs=0.26)
    early = max(0.0, reader.duration_seconds - lasts)  # of a clip that was copied
    for seconds, colour in zip(reader.times_seconds, colours, strict=True):
        moment = start - early + seconds
        if abs(moment - round(moment)) > 0.15:
            assert colour == pytest.approx(colour_at(moment), abs=25), moment


def test_large_frames_are_scaled_and_fast_ones_left_out(tmp_path):
    path = write_media(tmp_path / "v.mp4", seconds=1, size=(1920, 1080), fps=60)
    output = tmp_path / "clip.mp4"
    output.write_bytes(clip(path, 0.0, end_seconds=0.5))
    reader, colours, shape = shown(output)
    assert shape == (3, 720, 1280)
    assert np.diff(reader.times_seconds) == pytest.approx(1 / 30, abs=1e-3)
    assert len(colours) == 15


def test_frames_are_upright(tmp_path):
    path = write_media(tmp_path / "v.mp4", "libx265", seconds=1, size=(128, 64))
    set_matrix(path, np.array([[0, 1], [-1, 0]]))
    assert image_of(thumbnail(path, 0, width=320)).size == (64, 128)
    output = tmp_path / "clip.mp4"
    output.write_bytes(clip(path, 0.0, end_seconds=0.5))
    assert shown(output)[2] == (3, 128, 64)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.png", "image/png"),
        ("a.tif", "image/tiff"),
        ("a.bmp", "image/bmp"),
    ],
)
def test_photos(tmp_path, name, kind):
    path = tmp_path / name
    Image.new("RGB", (800, 400), colour_at(0)).save(path)
    found = probe(path)
    assert (found["type"], found["plays"]) == (kind, kind != "image/tiff")
    image = image_of(thumbnail(path, 7.0, width=200))
    assert image.size == (200, 100)
    assert mean_colour(image) == pytest.approx(colour_at(0), abs=8)
    output = tmp_path / "clip.mp4"
    output.write_bytes(clip(path, 0.0, end_seconds=2))
    assert shown(output)[1][0] == pytest.approx(colour_at(0), abs=8)


def test_picture_of_a_strange_shape_is_bounded(tmp_path):
    Image.new("RGB", (10, 5000)).save(tmp_path / "tall.png")
    assert image_of(thumbnail(tmp_path / "tall.png", 0, width=320)).height <= 960


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"<html><script>alert(1)</script>", "application/octet-stream"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "application/octet-stream"),
        (b"", "application/octet-stream"),
        (b"\0\0\0\x18ftypavif", "image/avif"),
        (b"\0\0\0\x18ftypqt  ", "video/mp4"),
        (b"\0\0\0\x08wide\0\0\0\x10mdat", "video/quicktime"),
        (b"RIFF\0\0\0\0WEBP", "image/webp"),
        (b"RIFF\0\0\0\0WAVE", "application/octet-stream"),
        (b"\x47" * 400, "video/mp2t"),
    ],
)
def test_type_is_never_one_that_browsers_run(head, kind):
    assert media_type(head) == kind


def test_what_cannot_be_cut_is_named(written, tmp_path):
    path = written("a.mp4")
    file = media_file(path)
    with pytest.raises(MediaOutOfRange, match=r"lasts 5\.00 seconds"):
        cut(BrowserClip(file, 5.0, 6.0))
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no video" * 100)
    for request in (Thumbnail(media_file(noise), 0, 320), BrowserClip(media_file(noise), 0, 1)):
        with pytest.raises(MediaUnreadable, match="no video"):
            cut(request)
    assert not cut(Probe(media_file(noise)))["plays"]
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(path.read_bytes())
    file = media_file(changed)
    os.utime(changed, (1, 1))
    with pytest.raises(MediaChanged):
        cut(Thumbnail(file, 0, 320))
    changed.unlink()
    with pytest.raises(MediaMissing):
        cut(Probe(file))
