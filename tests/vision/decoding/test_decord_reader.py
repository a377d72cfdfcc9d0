"""The first decoder: it agrees with FFmpeg where it is taken, and is refused elsewhere."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from reelseek.vision import Preprocessing, VideoDecodeError, frame_indices_at
from reelseek.vision.decoding.orientation import square
from reelseek.vision.decoding.pyav_reader import PyAVReader
from reelseek.vision.errors import UnsuitableDecoderError
from tests.vision.conftest import psnr, set_matrix, textured_pictures
from tests.vision.decoding.test_orientation import MATRICES, name

decord_reader = pytest.importorskip(
    "vision.decoding.decord_reader", reason="decord has no build here"
)
DecordReader = decord_reader.DecordReader

SHORT_GOPS = {"g": "12", "keyint_min": "12", "sc_threshold": "0"}
# What decord gets wrong after a seek: frames are shown before the key frame that they follow, or
# key frames only begin to renew the picture.
OPEN_GOPS = "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"
REFRESH = "intra-refresh=1:keyint=12:bframes=0"
# Of the shared odd files, those that decord itself opens and gets wrong.
WRONG_IN_DECORD = set(
    """
    exoplayer/dolbyVision-hdr.MOV exoplayer/roadtrip-vp92-10bit.webm
    exoplayer/sample_h262_mpeg_audio.ps exoplayer/sample_h264_dts_audio.ts
    exoplayer/sample_h264_mpeg_audio.ts exoplayer/sample_h265_rps_pred.ts
    exoplayer/sample_scte35.ts exoplayer/sample_sef_slow_motion.mp4
    exoplayer/sample_sef_super_slow_motion.mp4 fuzzing-corpus/0-timescale.mp4
    fuzzing-corpus/320x240.ogv fuzzing-corpus/audio-overhang.ogv
    fuzzing-corpus/black29x19offset.ogv fuzzing-corpus/flash.flv fuzzing-corpus/multiple-bos.ogv
    fuzzing-corpus/wakelock.ogv fuzzing-corpus/web_video1.ogv
    libwebm/accurate_cluster_duration.webm libwebm/segment_duration.webm made/start_1000s.ts
    made/tiny_16x16.mp4 made/zeroed_middle.mp4 mp4parse/no_timescale.mp4
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
    asked = frame_indices_at(times, np.asarray(moments_seconds)).tolist()
    ours, theirs = dict(pyav.frames(asked, resize)), dict(decord.frames(asked, resize))
    common = ours.keys() & theirs.keys()
    assert len(common) >= 0.75 * len(asked)
    assert min(psnr(ours[index], theirs[index]) for index in common) >= 30


def as_passed_on(pixels, pixel_aspect):
    return pixels, pixel_aspect


def served(path, *samples):
    """Checks that each of these samples of the frames is the one that PyAV gives, to its pixels'
    shape, and gives the reader."""
    reader = DecordReader(path)
    expected = dict(PyAVReader(path).frames(range(len(reader.times_seconds)), as_passed_on))
    for sample in samples or [range(len(expected))]:
        frames = dict(reader.frames(sample, as_passed_on))
        assert list(frames) == sorted(set(sample))
        for index, (pixels, pixel_aspect) in frames.items():
            assert pixel_aspect == expected[index][1]
            assert psnr(pixels, expected[index][0]) >= 40
    return reader


@pytest.fixture
def encode(tmp_path):
    """Writes H.264 with what few files have."""

    def write(
        name, pictures, *, pix_fmt="yuv420p", matrix=2, colour_range=0, keys=(), options=(), **tags
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt, stream.options = pix_fmt, dict(options)
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = colour_range
            stream.metadata.update(tags)
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
                frame.pts, frame.time_base = index, Fraction(1, 10)
                frame.colorspace, frame.color_range = matrix, colour_range
                if index in keys:
                    frame.pict_type = av.video.frame.PictureType.I
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


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


@pytest.mark.parametrize("matrix", MATRICES, ids=name)
@pytest.mark.parametrize("pixel_aspect", [None, Fraction(2), Fraction(8, 9)], ids=str)
def test_frames_are_turned_mirrored_and_stretched_as_those_of_pyav(
    write_pictures, matrix, pixel_aspect
):
    pictures = textured_pictures(5, size=(128, 64))
    path = write_pictures("a.mp4", pictures, pixel_aspect=pixel_aspect)
    set_matrix(path, matrix)
    served(path)


@pytest.mark.parametrize("degrees", ["90", "180", "270"])
def test_turn_that_only_decord_heeds_is_undone(encode, degrees):
    served(encode("a.mkv", textured_pictures(10, size=(128, 64)), rotate=degrees))


def test_file_is_refused_where_the_first_picture_does_not_tell_how_it_is_turned(write_pictures):
    pictures = textured_pictures(5, size=(64, 64))
    pictures[0] = 128
    path = write_pictures("a.mp4", pictures)
    served(path)
    set_matrix(path, np.array([[0, 1], [-1, 0]]))
    with pytest.raises(UnsuitableDecoderError, match="does not show the picture"):
        DecordReader(path)


@pytest.mark.parametrize("kind", ["a.mp4", "a.mkv"])
def test_frames_after_seeks_are_those_that_were_asked_for(write_pictures, kind):
    options = {**SHORT_GOPS, "bf": "3", "b_strategy": "0"}
    path = write_pictures(kind, textured_pictures(60), options=options)
    served(path, range(60), [59], [0], [47, 13, 25, 26, 50], [11, 12, 23, 24], range(0, 60, 7))


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("a.mp4", "libx264", {"x264-params": OPEN_GOPS}),
        ("a.mkv", "libx264", {"x264-params": OPEN_GOPS}),
        ("a.mp4", "libx264", {"x264-params": REFRESH}),
        ("a.mkv", "libx264", {"x264-params": REFRESH}),
        ("a.mp4", "libx265", {"x265-params": f"{OPEN_GOPS}:log-level=none"}),
        ("a.mp4", "mpeg4", {"bf": "2", "g": "10"}),
        ("a.avi", "libx264", {"bf": "3", "b_strategy": "0", "g": "12"}),
        ("a.ts", "libx264", {"g": "12"}),
        ("a.mp4", "libx264", {"flags": "+ildct+ilme", "x264-params": "tff=1"}),
    ],
)
def test_file_whose_frames_decord_would_confuse_is_refused(write_pictures, kind, codec, options):
    path = write_pictures(kind, textured_pictures(40), codec=codec, options=options)
    with pytest.raises(UnsuitableDecoderError):
        DecordReader(path)


def test_key_frame_that_comes_sooner_than_pictures_are_reordered_is_refused(encode):
    """decord seeks it by when it is shown, among key frames listed by when they are decoded."""
    options = {"forced-idr": "1", "x264-params": "bframes=3:b-adapt=0:keyint=60"}
    path = encode("a.mp4", textured_pictures(40), keys=(20, 21), options=options)
    with pytest.raises(UnsuitableDecoderError, match="one key frame for the next"):
        DecordReader(path)


def test_height_of_an_odd_number_of_lines_is_refused(write_pictures):
    """The colours of its last line would be others; a picture of one colour does not show it."""
    pictures = textured_pictures(5)[:, :47]
    pictures[0] = 128
    path = write_pictures("a.mkv", pictures, codec="libvpx-vp9")
    with pytest.raises(UnsuitableDecoderError, match="of its kind"):
        DecordReader(path)


def test_ten_bits_are_refused(encode):
    with pytest.raises(UnsuitableDecoderError, match="of its kind"):
        DecordReader(encode("a.mp4", textured_pictures(3), pix_fmt="yuv420p10le"))


@pytest.mark.parametrize("colour_range", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9], ids="matrix {}".format)
def test_colours_are_those_that_the_file_states(encode, matrix, colour_range):
    served(encode("a.mp4", textured_pictures(3), matrix=matrix, colour_range=colour_range))


def test_frames_end_where_the_picture_changes_its_size(tmp_path):
    path = tmp_path / "a.mkv"
    sizes = [(64, 48)] * 30 + [(48, 64)] * 30
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuv420p"
        for size in dict.fromkeys(sizes):
            encoder = av.CodecContext.create("libvpx-vp9", "w")
            encoder.width, encoder.height = size
            encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 10)
            encoder.options = {"lag-in-frames": "0", "deadline": "realtime"}
            packets = []
            for index, picture in enumerate(textured_pictures(30, size=size)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = index + 30 * (size != sizes[0])
                frame.time_base = encoder.time_base
                packets += encoder.encode(frame.reformat(format="yuv420p"))
            for packet in packets + encoder.encode(None):
                packet.stream = stream
                container.mux(packet)
    try:
        frames = list(DecordReader(path).frames(range(60), as_passed_on))
    except UnsuitableDecoderError:  # it has decoded so far ahead
        return
    assert {pixels.shape for _, (pixels, _) in frames} <= {(3, 48, 64)}


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_no_frame_of_a_damaged_file_is_another_than_pyav_gives(write_pictures, codec):
    options = {"g": "12"} if codec == "libvpx-vp9" else {**SHORT_GOPS, "bf": "2"}
    whole = write_pictures("a.mkv", textured_pictures(36), codec=codec, options=options)
    content = whole.read_bytes()
    generator = np.random.default_rng(0)
    num_shown = 0
    for attempt in range(12):
        damaged = bytearray(content)
        start = int(generator.integers(len(content) // 10, len(content) * 9 // 10))
        length = int(generator.integers(1, 300))
        damaged[start : start + length] = generator.bytes(length)
        path = whole.with_name(f"{attempt}.mkv")
        path.write_bytes(damaged)
        try:
            reader = DecordReader(path)
        except VideoDecodeError:
            continue
        expected = dict(PyAVReader(path).frames(range(len(reader.times_seconds))))
        for index, frame in reader.frames(range(0, len(reader.times_seconds), 5)):
            assert psnr(frame, expected[index]) >= 40
            num_shown += 1
    assert num_shown > 5


def test_large_pictures_far_from_key_frames_are_refused(write_pictures, monkeypatch):
    """decord keeps what it decodes ahead."""
    path = write_pictures("a.mp4", textured_pictures(30), options=SHORT_GOPS)
    monkeypatch.setattr(decord_reader, "_MAX_AHEAD_BYTES", 12 * 3 * 64 * 48)
    served(path)
    monkeypatch.setattr(decord_reader, "_MAX_AHEAD_BYTES", 12 * 3 * 64 * 48 - 1)
    with pytest.raises(UnsuitableDecoderError, match="too many large frames"):
        DecordReader(path)


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
    with pytest.raises(VideoDecodeError, match="it is no video"):
        DecordReader(tmp_path / "a.mp4")
    with pytest.raises(UnsuitableDecoderError, match="decord cannot open it"):
        DecordReader(tmp_path / "a.mp4", checked=False)


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
    assert refused >= WRONG_IN_DECORD
