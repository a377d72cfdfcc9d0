from types import SimpleNamespace

import av
import pytest

from reelseek.vision import VideoDecodeError
from reelseek.vision.decoding.container import decode, open_container, why_no_frame
from tests.vision.conftest import textured_pictures


class FakeStream:
    """Packets of these times (None where a packet has none), for a decoder that notes whether it is
    asked to skip frames."""

    def __init__(self, codec, times):
        self.codec_context = SimpleNamespace(name=codec, skip_frame="DEFAULT", decode=lambda _: [])
        self.asked = []
        self.packets = [SimpleNamespace(pts=pts, size=9, decode=self.note) for pts in times]
        self.packets.append(SimpleNamespace(pts=None, size=0, decode=self.note))

    def demux(self, stream):
        return iter(self.packets)

    def note(self):
        self.asked.append(self.codec_context.skip_frame)
        return []


def skipped(codec, times, wanted):
    stream = FakeStream(codec, times)
    assert list(decode(stream, stream, needed_pts=wanted)) == []
    return [asked == "NONREF" for asked in stream.asked]


def test_frames_that_are_not_wanted_are_skipped_but_for_those_needed():
    assert skipped("h264", [0, 3, 1, 2], {1}) == [True, True, False, True, False]
    assert skipped("hevc", [0, 1], set()) == [True, True, False]


def test_everything_is_decoded_where_all_is_wanted_or_the_codec_cannot_skip():
    assert skipped("h264", [0, 1], None) == [False, False, False]
    assert skipped("vp9", [0, 1], {0}) == [False, False, False]


def test_packet_without_a_time_is_decoded():
    """It may be the second field of the frame that is wanted."""
    assert skipped("h264", [0, None, 1, None], {1}) == [True, False, False, False, False]


def test_decoding_needs_one_thread(write_pictures):
    container, stream = open_container(write_pictures("a.mp4", textured_pictures(3)))
    with container:
        assert stream.codec_context.thread_count == 1
        assert len(list(decode(container, stream))) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_that_the_decoder_holds_are_given_where_a_file_breaks_off(write_pictures, name):
    options = {"bf": "3", "b_strategy": "0", "g": "10"}
    path = write_pictures(
        name,
        textured_pictures(40),
        options=options,
        container_options={"movflags": "faststart"} if name == "a.mp4" else None,
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    container, stream = open_container(path)
    with container:
        num_packets = 0
        for packet in container.demux(stream):
            num_packets += bool(packet.size)
    container, stream = open_container(path)
    with container:
        assert len(list(decode(container, stream))) >= num_packets - 1  # the last may be cut


def test_file_says_why_it_does_not_open(tmp_path):
    for content, reason in (
        (b"not a video" * 100, "it is no video"),
        (b"\0\0\0\x18ftypisom" + b"encv" * 9, "encrypted"),
    ):
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoDecodeError, match=reason):
            open_container(path)
    assert why_no_frame(path) == "its video is encrypted"


def test_cover_picture_is_not_the_video(write_pictures, tmp_path):
    """Of several video streams, a picture of an album is the last choice."""
    pictures = textured_pictures(10)
    source = write_pictures("a.mp4", pictures)
    both = tmp_path / "both.mp4"
    with av.open(str(source)) as inside, av.open(str(both), "w") as outside:
        cover = outside.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = 0x0400  # attached picture
        stream = outside.add_stream_from_template(inside.streams.video[0])
        big = textured_pictures(1, size=(640, 480))[0]
        outside.mux(cover.encode(av.VideoFrame.from_ndarray(big, format="rgb24")))
        outside.mux(cover.encode())
        for packet in inside.demux(video=0):
            if packet.size:
                packet.stream = stream
                outside.mux(packet)
    container, stream = open_container(both)
    with container:
        assert (stream.codec_context.name, stream.codec_context.width) == ("h264", 64)
