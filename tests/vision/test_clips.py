import io

import av
import numpy as np
import pytest

from reelseek.vision import VideoDecodeError, open_video
from reelseek.vision.clips import ClipForm, write_clip
from reelseek.vision.decoding.sound import decode_sound
from tests.indexing.speaking import silence, tone, write_film
from tests.vision.conftest import psnr, textured_pictures
from tests.vision.decoding.test_sound import loud_seconds, whole

RATE = 10  # frames a second


def colour_of(index):
    """Another colour for each of 40 frames, far enough apart to be told after encoding."""
    return (40 + 10 * (index % 20), 60 if index < 20 else 180, 250 - 6 * index)


@pytest.fixture
def video(write_video):
    """Four seconds, a key frame every half second."""
    return write_video("v.mp4", [colour_of(index) for index in range(40)])


def colours(path):
    reader = open_video(path)
    frames = reader.frames(range(len(reader.times_seconds)))
    return reader, [pixels.float().mean(dim=(1, 2)).numpy() for _, pixels in frames]


def frame_numbers(path):
    """Which frames of `video` a clip has."""
    known = np.array([colour_of(index) for index in range(40)])
    return [int(np.abs(known - colour).sum(axis=1).argmin()) for colour in colours(path)[1]]


@pytest.mark.parametrize(
    ("start", "end", "first", "last", "is_copied"),
    [
        (1.0, 2.0, 10, 19, True),
        (0.0, 4.0, 0, 39, True),
        (1.55, 2.0, 15, 19, True),  # the key frame is on screen
        (1.3, 2.0, 13, 19, False),
        (1.25, 1.97, 12, 19, False),
        (3.7, 99.0, 37, 39, False),
        (2.0, 2.05, 20, 20, True),
    ],
)
def test_clip_has_the_frames_of_its_seconds(video, tmp_path, start, end, first, last, is_copied):
    output = tmp_path / "clip.mp4"
    clip = write_clip(video, output, start_seconds=start, end_seconds=end, tolerance_seconds=0)
    assert clip.is_copied == is_copied
    assert frame_numbers(output) == list(range(first, last + 1))
    times = open_video(output).times_seconds
    expected = np.maximum(0, np.arange(first, last + 1) / RATE - clip.start_seconds)
    assert times == pytest.approx(expected, abs=2e-3)


def test_clip_begins_at_a_key_frame_within_the_tolerance(video, tmp_path):
    output = tmp_path / "clip.mp4"
    clip = write_clip(video, output, start_seconds=1.2, end_seconds=2, tolerance_seconds=0.25)
    assert (clip.is_copied, clip.start_seconds) == (True, 1.0)
    assert frame_numbers(output) == list(range(10, 20))


@pytest.mark.parametrize("start", [1.0, 1.2])
def test_frames_that_are_stored_in_another_order_are_all_there(tmp_path, start):
    path, output = tmp_path / "b.mkv", tmp_path / "clip.mp4"
    pictures = textured_pictures(40)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"crf": "10", "g": "10", "bf": "3", "b_strategy": "0"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    clip = write_clip(path, output, start_seconds=start, end_seconds=2.5, tolerance_seconds=0.3)
    assert clip.is_copied
    reader = open_video(output)
    shown = [pixels for _, pixels in reader.frames(range(len(reader.times_seconds)))]
    assert 15 <= len(shown) <= 18 and clip.end_seconds == pytest.approx(1 + len(shown) / RATE)
    for pixels, picture in zip(shown, pictures[10:], strict=False):
        assert psnr(pixels.permute(1, 2, 0).numpy(), picture) > 25


@pytest.mark.parametrize("start", [2.0, 2.5])
def test_sound_is_cut_with_the_pictures(tmp_path, start):
    samples = np.concatenate([silence(3), tone(1.5), silence(3.5)])
    film = write_film(tmp_path / "film.mkv", list(textured_pictures(8)), samples)
    output = tmp_path / "clip.mp4"
    write_clip(film, output, start_seconds=start, end_seconds=5)
    begins, ends = loud_seconds(whole(decode_sound(output)))
    assert (begins, ends) == pytest.approx((3 - start, 4.5 - start), abs=0.06)
    assert len(whole(decode_sound(output))) / 16_000 == pytest.approx(5 - start, abs=0.08)


def test_odd_sizes_and_other_containers_are_written(write_video, tmp_path):
    video = write_video("v.mkv", [colour_of(index) for index in range(40)], size=(62, 34))
    for name, container in (("c.mkv", "matroska"), ("c.mov", "mov")):
        output = tmp_path / name
        write_clip(video, output, start_seconds=1.3, end_seconds=2, form=ClipForm(container))
        assert frame_numbers(output) == list(range(13, 20))


def test_codec_that_a_container_does_not_take_is_encoded(tmp_path):
    path, output = tmp_path / "v.avi", tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("huffyuv", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p"
        for index in range(20):
            picture = np.full((48, 64, 3), colour_of(index), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert not write_clip(path, output, start_seconds=1, end_seconds=1.5).is_copied
    assert frame_numbers(output) == list(range(10, 15))


def test_what_cannot_be_cut_is_named(video, tmp_path):
    with pytest.raises(ValueError, match=r"start=4: the video lasts 4.00 seconds"):
        write_clip(video, tmp_path / "c.mp4", start_seconds=4, end_seconds=5)
    with pytest.raises(VideoDecodeError, match="no such file"):
        write_clip(tmp_path / "absent.mp4", tmp_path / "c.mp4", start_seconds=0, end_seconds=5)


def test_form_of_a_player_is_kept(video, tmp_path):
    never = ClipForm(can_copy=lambda stream: False, max_height=24, max_rate=5)
    output = io.BytesIO()
    clip = write_clip(video, output, start_seconds=1, end_seconds=2, form=never)
    path = tmp_path / "clip.mp4"
    path.write_bytes(output.getvalue())
    reader = open_video(path)
    assert not clip.is_copied
    assert next(reader.frames([0]))[1].shape == (3, 24, 32)
    assert reader.times_seconds == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=2e-3)
    assert frame_numbers(path) == [10, 12, 14, 16, 18]
    small = ClipForm(max_copied_bytes=10)
    assert not write_clip(video, path, start_seconds=1, end_seconds=2, form=small).is_copied


@pytest.mark.parametrize("name", ["film.flv", "film.avi"])
def test_clip_begins_with_the_sound_of_a_file_that_cannot_seek_before_its_start(tmp_path, name):
    source, output = tmp_path / name, tmp_path / "clip.mp4"
    samples = (20_000 * np.sin(np.arange(3 * 44_100) / 20)).astype(np.int16)
    with av.open(str(source), "w") as container:
        pictures = container.add_stream("mpeg4" if name.endswith("avi") else "flv", rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("libmp3lame", rate=44_100, layout="mono")
        for index, picture in enumerate(textured_pictures(30)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            heard = samples[index * 4410 : (index + 1) * 4410].reshape(1, -1)
            piece = av.AudioFrame.from_ndarray(heard, format="s16", layout="mono")
            piece.sample_rate, piece.pts = 44_100, index * 4410
            container.mux([*pictures.encode(frame), *sound.encode(piece)])
        container.mux([*pictures.encode(), *sound.encode()])
    write_clip(source, output, start_seconds=0, end_seconds=2)
    assert loud_seconds(whole(decode_sound(output))) == pytest.approx((0, 2), abs=0.06)


@pytest.mark.parametrize(
    ("form", "is_copied", "seconds"),
    [(ClipForm(), True, 6), (ClipForm(max_excess_seconds=0.5), False, 3)],
)
def test_last_frame_is_shown_until_the_clip_ends(write_video, tmp_path, form, is_copied, seconds):
    slow = write_video("slow.mkv", [colour_of(0), colour_of(30)], times_seconds=[0, 6])
    output = tmp_path / "clip.mp4"
    clip = write_clip(slow, output, start_seconds=1, end_seconds=4, form=form)
    assert (clip.is_copied, clip.end_seconds - clip.start_seconds) == (is_copied, seconds)
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(seconds, abs=0.01)


def test_sound_that_is_in_the_form_of_the_clip_already_is_cut(tmp_path):
    source, output = tmp_path / "film.mkv", tmp_path / "clip.mp4"
    with av.open(str(source), "w") as container:
        pictures = container.add_stream("libx264", rate=RATE)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=48_000, layout="stereo")
        for index, picture in enumerate(textured_pictures(40)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            level = 0.5 if 10 <= index < 25 else 0.0  # loud from 1 to 2.5 seconds
            heard = level * np.sin(np.arange(4800) / 20).astype(np.float32)
            piece = av.AudioFrame.from_ndarray(np.stack([heard, heard]), "fltp", "stereo")
            piece.sample_rate, piece.pts = 48_000, index * 4800
            container.mux([*pictures.encode(frame), *sound.encode(piece)])
        container.mux([*pictures.encode(), *sound.encode()])
    write_clip(source, output, start_seconds=0.5, end_seconds=3)
    assert loud_seconds(whole(decode_sound(output))) == pytest.approx((0.5, 2), abs=0.06)
