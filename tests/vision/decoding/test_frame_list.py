import av
import numpy as np
import pytest

from reelseek.vision.decoding.frame_list import list_decoded, list_packets
from reelseek.vision.decoding.pyav_reader import PyAVReader
from tests.vision.conftest import decode_plainly, textured_pictures

B_FRAMES = {"bf": "3", "g": "30", "b_strategy": "0", "sc_threshold": "0"}
CONTAINERS = [
    ("a.mp4", "libx264", B_FRAMES),  # its edit list takes off the delay of the B-frames
    ("a.mov", "libx264", {"bf": "0", "g": "7"}),
    ("a.mkv", "libx264", B_FRAMES),
    ("a.ts", "libx264", B_FRAMES),  # begins at 1.4 seconds
    ("a.flv", "libx264", B_FRAMES),
    ("a.avi", "mpeg4", {"g": "7"}),
    ("a.mpg", "mpeg2video", {"bf": "2", "g": "12"}),
    ("a.webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}),
]


def lists(path):
    """By the packets, and by decoding."""
    with av.open(str(path)) as container:
        by_packets = list_packets(container, container.streams.video[0])
    return by_packets, list_decoded(path)


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS, ids=lambda value: str(value)[:9])
def test_frames_of_a_constant_rate(write_pictures, name, codec, options):
    path = write_pictures(name, textured_pictures(40), codec=codec, options=options)
    for listed in lists(path):
        np.testing.assert_allclose(listed.times_seconds, np.arange(40) / 10, atol=0.001)
        assert listed.duration_seconds == pytest.approx(4.0, abs=0.002)
        assert listed.has_times
        assert (listed.num_lost, listed.only_damaged) == (0, False)
        assert listed.is_key_frame[0]


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS, ids=lambda value: str(value)[:9])
def test_decoding_shows_what_the_packets_say(write_pictures, name, codec, options):
    path = write_pictures(name, textured_pictures(40), codec=codec, options=options)
    by_packets, decoded = lists(path)
    np.testing.assert_array_equal(by_packets.keys, decoded.keys)
    np.testing.assert_array_equal(by_packets.is_key_frame, decoded.is_key_frame)
    assert by_packets.keys.tolist() == [pts for pts, _ in decode_plainly(path)]
    assert set(by_packets.seek_points) >= set(by_packets.keys[by_packets.is_key_frame])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_key_frames_are_where_they_were_asked_for(write_pictures, name):
    options = {"g": "9", "keyint_min": "9", "sc_threshold": "0", "bf": "2", "b_strategy": "0"}
    path = write_pictures(name, textured_pictures(40), options=options)
    for listed in lists(path):
        assert np.flatnonzero(listed.is_key_frame).tolist() == [0, 9, 18, 27, 36]


@pytest.mark.parametrize("options", [B_FRAMES, {"bf": "0"}], ids=["b-frames", "plain"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_of_a_variable_rate(write_pictures, name, options):
    times = np.cumsum([0.0] + [0.04, 0.2, 0.04, 1.5, 0.033] * 5)
    path = write_pictures(name, textured_pictures(26), times_seconds=times, options=options)
    for listed in lists(path):
        np.testing.assert_allclose(listed.times_seconds, times, atol=0.002)
        # The last frame is taken to last as long as most do.
        assert listed.duration_seconds == pytest.approx(times[-1] + 0.04, abs=0.004)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_video_that_begins_late_counts_from_its_first_frame(write_pictures, name):
    times = 90 + np.arange(20) / 10
    path = write_pictures(name, textured_pictures(20), times_seconds=times, options=B_FRAMES)
    for listed in lists(path):
        np.testing.assert_allclose(listed.times_seconds, times - 90, atol=0.002)


def test_frames_before_the_edit_are_not_listed(write_pictures, tmp_path):
    """Cut without encoding anew, at a time that is no key frame's: the file keeps what the first
    shown frame is predicted from."""
    whole = write_pictures("whole.mp4", textured_pictures(40), options={"g": "40", "bf": "0"})
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as inside, av.open(str(cut), "w") as outside:
        stream = outside.add_stream_from_template(inside.streams.video[0])
        for packet in inside.demux(video=0):
            if packet.size:
                packet.pts -= 12 * 1024  # of 10240 a second
                packet.dts -= 12 * 1024
                packet.stream = stream
                outside.mux(packet)
    plain = decode_plainly(whole)
    by_packets, decoded = lists(cut)
    np.testing.assert_array_equal(by_packets.keys, decoded.keys)
    np.testing.assert_allclose(by_packets.times_seconds, np.arange(28) / 10, atol=0.002)
    for index, frame in PyAVReader(cut).frames(range(28)):
        np.testing.assert_array_equal(frame.permute(1, 2, 0), plain[index + 12][1])


def test_file_without_times_is_known_by_frame_numbers(write_pictures):
    path = write_pictures("a.h264", textured_pictures(20), options=B_FRAMES | {"g": "5"})
    by_packets, decoded = lists(path)
    assert by_packets is None
    assert decoded.keys.tolist() == list(range(20))
    assert not decoded.has_times
    assert np.flatnonzero(decoded.is_key_frame).tolist() == [0, 5, 10, 15]


def test_frames_that_a_cut_file_lacks_are_lost(write_pictures):
    path = write_pictures(
        "a.mp4",
        textured_pictures(40),
        options={"bf": "0", "g": "5"},
        container_options={"movflags": "faststart"},
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for listed in lists(path):
        assert 10 < len(listed.keys) < 30
        assert len(listed.keys) + listed.num_lost == pytest.approx(40, abs=1)
