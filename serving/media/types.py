"""The first bytes of a file -> its media type, whatever its name says.

Source: the WHATWG's "MIME Sniffing" standard, sections 6.1 and 6.2.
"""

from pathlib import Path

HEAD_BYTES = 4096
OTHER_TYPE = "application/octet-stream"

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"OggS", "video/ogg"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x06\x0e\x2b\x34", "application/mxf"),
)
_ISO_IMAGES = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic"}
_TRANSPORT_PACKET_BYTES = 188


def media_type(head: bytes) -> str:
    """Returns the type of a file by its first `HEAD_BYTES`; never one that browsers run."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF":
        return {b"AVI ": "video/x-msvideo", b"WEBP": "image/webp"}.get(head[8:12], OTHER_TYPE)
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML; its document type follows
        return "video/webm" if b"\x42\x82\x84webm" in head[:64] else "video/x-matroska"
    if head[4:8] == b"ftyp":
        # QuickTime's own brand too: browsers read it as MP4, but not all know its name.
        return _ISO_IMAGES.get(head[8:12], "video/mp4")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"):
        return "video/quicktime"
    if head[:1] == b"\x47" and head[_TRANSPORT_PACKET_BYTES:][:1] in (b"\x47", b""):
        return "video/mp2t"
    return OTHER_TYPE


def type_of(path: Path) -> str:
    """Returns `media_type` of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return media_type(file.read(HEAD_BYTES))
