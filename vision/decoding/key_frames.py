"""Checks whether decoding can start at a packet that is marked as a key frame.

Some H.264 files mark frames as key frames that only begin a gradual refresh: a decoder that starts
there drops frames until the whole picture is renewed.
"""

from av.packet import Packet
from av.video.stream import VideoStream

# Offset in the stream's header of the size of a unit's length field (in bytes, minus one).
_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}


def starts_afresh(packet: Packet, stream: VideoStream) -> bool:
    """Whether no later frame depends on frames before the packet; False if unknown.

    Source: ITU-T H.264, table 7-1 (unit type 5); ITU-T H.265, table 7-1 (types 16 to 21).
    """
    codec = stream.codec_context.name
    if codec not in _LENGTH_SIZE_AT:
        return True
    header = stream.codec_context.extradata or b""
    at = _LENGTH_SIZE_AT[codec]
    if len(header) <= at or header[0] != 1:  # units are marked by start codes, as in broadcasts
        return False
    units = _unit_heads(memoryview(packet), length_size=(header[at] & 3) + 1)
    if codec == "h264":
        return any(head & 0x1F == 5 for head in units)
    return any(16 <= head >> 1 & 0x3F <= 21 for head in units)


def _unit_heads(content: memoryview, *, length_size: int) -> list[int]:
    """Returns the first byte of each unit."""
    heads = []
    start = length_size
    while start < len(content):
        heads.append(content[start])
        start += int.from_bytes(content[start - length_size : start], "big") + length_size
    return heads
