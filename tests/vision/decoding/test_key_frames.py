import av
import pytest

from reelseek.vision.decoding.container import open_container, packets
from reelseek.vision.decoding.key_frames import starts_afresh
from tests.vision.conftest import textured_pictures

CLOSED = "keyint=8:min-keyint=8:scenecut=0:bframes=0"


def marked(path):
    """Of each packet that is marked as a key frame."""
    container, stream = open_container(path)
    with container:
        return [
            starts_afresh(packet, stream)
            for packet in packets(container, stream)
            if packet.size and packet.is_keyframe
        ]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"x264-params": CLOSED}),
        ("libx265", {"x265-params": f"{CLOSED}:open-gop=0:log-level=none"}),
        ("libvpx-vp9", {"g": "8", "lag-in-frames": "0"}),
    ],
)
def test_frames_after_a_closed_key_frame_do_not_depend_on_others(
    write_pictures, name, codec, options
):
    path = write_pictures(name, textured_pictures(20), codec=codec, options=options)
    assert marked(path) == [True] * 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frame_at_which_a_gradual_refresh_begins_is_told_from_a_closed_one(write_pictures, name):
    options = {"x264-params": "intra-refresh=1:keyint=8:bframes=0:scenecut=0"}
    first, *others = marked(write_pictures(name, textured_pictures(30), options=options))
    assert first
    assert others and not any(others)


def test_stream_with_start_codes_is_not_known(write_pictures):
    options = {"x264-params": CLOSED}
    assert not any(marked(write_pictures("a.ts", textured_pictures(20), options=options)))


def test_unit_that_ends_beyond_the_packet_is_passed_over(write_pictures):
    container, stream = open_container(write_pictures("a.mp4", textured_pictures(2)))
    with container:
        assert not starts_afresh(av.Packet(b"\xff\xff\xff\xff"), stream)
        assert not starts_afresh(av.Packet(b"\x00\x00"), stream)
