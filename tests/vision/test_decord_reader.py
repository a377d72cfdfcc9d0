"""The second decoder: it agrees with the first where it is taken, and is refused elsewhere."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.vision.conftest import psnr, set_matrix, textured_pictures
from vision import Preprocessing, VideoDecodeError, frames_on_screen
from vision.orientation import square
from vision.pyav_reader import PyAVReader

decord_reader = pytest.importorskip("vision.decord_reader", reason="decord has no build here")
DecordReader = decord_reader.DecordReader

# Of the shared odd files, those that decord opens but gets wrong.
WRONG_IN_DECORD = set(
    """
    exoplayer/dolbyVision-hdr.MOV exoplayer/portrait_4k60.mp4 exoplayer/roadtrip-vp92-10bit.webm
    exoplayer/sample_h262_mpeg_audio.ps exoplayer/sample_h264_dts_audio.ts
    exoplayer/sample_h264_mpeg_audio.ts exoplayer/sample_h265_rps_pred.ts
    exoplayer/sample_scte35.ts exoplayer/sample_sef_slow_motion.mp4
    exoplayer/sample_sef_super_slow_motion.mp4 exoplayer/sample_with_color_info.mp4
    exoplayer/video_desks.3gp fuzzing-corpus/0-timescale.mp4 fuzzing-corpus/320x240.ogv
    fuzzing-corpus/audio-overhang.ogv fuzzing-corpus/black29x19offset.ogv fuzzing-corpus/flash.flv
    fuzzing-corpus/multiple-bos.ogv fuzzing-corpus/wakelock.ogv fuzzing-corpus/web_video1.ogv
    libwebm/accurate_cluster_duration.webm libwebm/segment_duration.webm made/hflip_matrix.mp4
    made/start_1000s.ts made/tiny_16x16.mp4 mp4parse/bbb_sunflower_QCIF_30fps_h263_noaudio_1f.3gp
    mp4parse/bbb_sunflower_QCIF_30fps_mp4v_noaudio_1f.mp4 mp4parse/no_timescale.mp4
    mp4parse/video_colr_nclx_hdr10_full_range.mp4 mp4parse/video_colr_nclx_hlg.mp4
    mp4parse/video_colr_nclx_hlg_full_range.mp4 mp4parse/video_colr_nclx_two_colr.mp4
    torchcodec/h264_10bits.mp4 torchcodec/h265_10bits.mp4
    """.split()
)


def assert_agree(pyav, decord, moments_seconds, resize=square):
    """The frames at these moments are the same to the eye, their times to half a frame; those of
    damaged files where both give one."""
    times = pyav.times_seconds
    assert len(times) == len(decord.times_seconds)
    half_a_frame = np.median(np.diff(times)) / 2 if len(times) > 1 else 0.0
    assert np.abs(times - decord.times_seconds).max() <= half_a_frame
    asked = frames_on_screen(times, np.asarray(moments_seconds)).tolist()
    ours, theirs = dict(pyav.frames(asked, resize)), dict(decord.frames(asked, resize))
    common = ours.keys() & theirs.keys()
    assert len(common) >= 0.75 * len(asked)
    assert min(psnr(ours[index], theirs[index]) for index in common) >= 30


@pytest.mark.parametrize("size", [(64, 48), (320, 240), (176, 144)], ids=str)
@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3", "b_strategy": "0", "g": "25"}),
        ("a.mkv", "libx264", {"bf": "0", "g": "7"}),
        ("a.mov", "mpeg4", {"qscale": "3"}),
        ("a.ts", "libx264", {"bf": "2"}),
    ],
)
def test_frames_and_times_are_those_of_pyav(write_pictures, name, codec, options, size):
    pictures = textured_pictures(40, size=size)
    path = write_pictures(name, pictures, codec=codec, options=options)
    try:
        decord = DecordReader(path)
    except VideoDecodeError:
        assert name == "a.ts"  # it may find no times there, which it must then say
        return
    assert (decord.decoder, decord.knows_times) == ("decord", False)
    assert_agree(PyAVReader(path), decord, np.arange(40) / 10)
    assert_agree(PyAVReader(path), decord, [3.3, 0.1, 0.2, 3.9])
    assert decord.duration_seconds == pytest.approx(4.0, abs=0.05)


def test_times_of_a_variable_rate_are_those_of_pyav(write_pictures):
    times = np.cumsum([0.0] + [0.04, 0.2, 0.04, 1.5, 0.033] * 4)
    path = write_pictures("a.mp4", textured_pictures(21), times_seconds=times)
    decord = DecordReader(path)
    np.testing.assert_allclose(decord.times_seconds, times, atol=0.002)
    assert_agree(PyAVReader(path), decord, times)


def test_key_frames_are_those_of_pyav(write_pictures):
    options = {"g": "9", "keyint_min": "9", "sc_threshold": "0"}
    path = write_pictures("a.mp4", textured_pictures(40), options=options)
    np.testing.assert_array_equal(DecordReader(path).is_key_frame, PyAVReader(path).is_key_frame)


@pytest.mark.parametrize(
    ("matrix", "pixel_aspect"),
    [
        ([[0, 1], [-1, 0]], None),
        ([[-1, 0], [0, -1]], None),
        ([[-1, 0], [0, 1]], None),
        ([[1, 0], [0, 1]], Fraction(2)),
        ([[1, 0], [0, 1]], Fraction(8, 9)),
    ],
    ids=["quarter turn", "half turn", "mirrored", "wide pixels", "high pixels"],
)
def test_file_that_it_does_not_show_upright_is_refused(write_pictures, matrix, pixel_aspect):
    path = write_pictures("a.mp4", textured_pictures(5), pixel_aspect=pixel_aspect)
    set_matrix(path, np.array(matrix))
    with pytest.raises(VideoDecodeError, match="does not turn or stretch"):
        DecordReader(path)
    DecordReader(path, checked=False)


@pytest.mark.parametrize("width", [2, 4, 8, 12, 16, 18, 30])
def test_narrow_picture_is_refused_or_right(write_pictures, width):
    pictures = textured_pictures(5, size=(64, 48))[:, :16, :width]
    path = write_pictures("a.mp4", pictures, codec="mpeg4", options={"qscale": "2"})
    try:
        decord = DecordReader(path)
    except VideoDecodeError:
        return
    assert_agree(PyAVReader(path), decord, [0.0, 0.4])


@pytest.mark.parametrize("content", [b"", b"not a video" * 100], ids=["empty", "text"])
def test_unreadable_file_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoDecodeError, match="decord cannot open it"):
        DecordReader(tmp_path / "a.mp4")


@pytest.mark.shared
def test_odd_files_are_refused_or_agree(shared_data: Path):
    """What decord gets wrong, it must be known to get wrong."""
    folder = shared_data / "odd"
    resize = Preprocessing(size=(224, 224), mean=(0.0,) * 3, std=(1.0,) * 3).resize
    files = [line.split("\t")[0] for line in (folder / "MANIFEST.tsv").read_text().splitlines()[1:]]
    refused, differing, num_agreeing = set(), [], 0
    for file in files:
        try:
            DecordReader(folder / file, checked=False)
        except VideoDecodeError:
            continue
        try:
            decord = DecordReader(folder / file)
        except VideoDecodeError:
            refused.add(file)
            continue
        pyav = PyAVReader(folder / file)
        moments = np.linspace(0, min(12.0, pyav.duration_seconds), 12)
        try:
            assert_agree(pyav, decord, moments, resize)
            num_agreeing += 1
        except AssertionError as error:
            differing.append((file, str(error)[:80]))
    assert not differing
    assert num_agreeing >= 50
    assert refused == WRONG_IN_DECORD
