"""A packet marked as a key frame -> whether the decoder gives each frame from there on.

Some H.264 files mark frames as key frames that only begin a gradual refresh: a decoder that starts
there drops frames until the whole picture has been renewed.
"""

from av.packet import Packet
from av.video.stream import VideoStream

# Where a stream's header states how many bytes hold a unit's length, less one.
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}


def starts_afresh(packet: Packet, stream: VideoStream) -> bool:
    """Whether nothing that follows depends on what came before. False where that is not known.

    Source: ITU-T H.264, table 7-1 (unit type 5); ITU-T H.265, table 7-1 (16 to 21).
    """
    codec = stream.codec_context.name
    if codec not in _LENGTH_SIZE_AT:
        return True
    header = stream.codec_context.extradata or b""
    at = _LENGTH_SIZE_AT[codec]
    if len(header) <= at or header[0] != 1:  # units follow start codes, as in broadcasts
        return False
    units = _unit_heads(memoryview(packet), length_size=(header[at] & 3) + 1)
    if codec == "h264":
        return any(head & 0x1F == 5 for head in units)
    return any(16 <= head >> 1 & 0x3F <= 21 for head in units)


def _unit_heads(content: memoryview, *, length_size: int) -> list[int]:
    """The first byte of each unit."""
    heads = []
    start = length_size
    while start < len(content):
        heads.append(content[start])
        start += int.from_bytes(content[start - length_size : start], "big") + length_size
    return heads
