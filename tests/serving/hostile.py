"""Files that a stranger may upload: cut off, huge, of two kinds at once, or made to be slow."""

import io
import pickle
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, PngImagePlugin

SIZE = (64, 48)
RED = (220, 30, 30)
_DASH = b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"/>'
_FORMATS = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WEBP",
    "gif": "GIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "avif": "AVIF",
}


def image(kind: str = "png", size: tuple[int, int] = SIZE, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, RED if mode == "RGB" else 200).save(file, _FORMATS[kind], **options)
    return file.getvalue()


def video(suffix: str = ".mp4", num_frames: int = 20) -> bytes:
    """Ten frames a second, red."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.options = {"preset": "ultrafast"}
            for number in range(num_frames):
                pixels = np.full((SIZE[1], SIZE[0], 3), RED, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes()


def hostile_files() -> Iterator[tuple[str, bytes, str | None]]:
    """Yields names, contents, and as what each is sent."""
    clip = video()
    yield from _other_kinds(clip)
    yield from _cut_off(clip)
    yield from _huge_images()
    yield from _slow_images()
    yield from _odd_videos(clip)
    yield from _polyglots(clip)


def _other_kinds(clip: bytes) -> Iterator[tuple[str, bytes, str | None]]:
    passwd = b"file:///etc/passwd"
    for name, content in {
        "empty": b"",
        "one-byte": b"\xff",
        "text": b"a dog catches a frisbee\n" * 100,
        "html": b"<!doctype html><script>alert(1)</script>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="' + passwd + b'"/></svg>',
        "pickle": pickle.dumps({"a": [1, 2, 3]}),
        "numpy": b"\x93NUMPY\x01\0" + b"x" * 200,
        "zip": _zip(b"x"),
        "elf": b"\x7fELF" + bytes(100),
        "pdf": b"%PDF-1.7\n" + b"x" * 200,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n",
        "dos-postscript": b"\xc5\xd0\xd3\xc6" + bytes(40) + b"%!PS",
        "hls": b"#EXTM3U\n#EXTINF:1,\n" + passwd + b"\n#EXT-X-ENDLIST\n",
        "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "dash": _DASH,
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
        "ppm": b"P6 99999 99999 255\n",
        "xbm": b"#define im_width 99999\n#define im_height 99999\n",
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3),
        "icns": b"icns\0\0\0\x08",
        "dds": b"DDS " + bytes(200),
        "subtitles": b"1\n00:00:00,000 --> 00:00:09,000\nHello\n",
    }.items():
        yield name, content, None
    yield "video-as-image", clip, "image"
    yield "image-as-video", image(), "video"
    yield "text-as-video", b"x" * 1000, "video"


def _cut_off(clip: bytes) -> Iterator[tuple[str, bytes, str | None]]:
    files = {kind: image(kind) for kind in _FORMATS} | {"mp4": clip, "mkv": video(".mkv")}
    files["ts"] = video(".ts")
    for name, content in files.items():
        for eighths in (1, 3, 5, 7):
            yield f"{name}-{eighths}/8", content[: len(content) * eighths // 8], None
        middle = len(content) // 2
        yield f"{name}-zeroed", content[:middle] + bytes(len(content) - middle), None
    for num_bytes in (3, 8, 12, 20, 33):
        yield f"png-{num_bytes}-bytes", image()[:num_bytes], None


def _huge_images() -> Iterator[tuple[str, bytes, str | None]]:
    huge = 50_000
    yield "png-50000", _png(huge, huge, b""), "image"
    yield "png-2^31", _png(0x7FFFFFFF, 0x7FFFFFFF, b""), "image"
    yield "png-0", _png(0, 0, b""), "image"
    yield "png-65000001", _png(65_000_001, 1, b""), "image"
    jpeg = image("jpeg")
    frame = jpeg.index(b"\xff\xc0") + 5
    yield "jpeg-50000", jpeg[:frame] + struct.pack(">HH", huge, huge) + jpeg[frame + 4 :], "image"
    yield "jpeg-0", jpeg[:frame] + bytes(4) + jpeg[frame + 4 :], "image"
    gif = image("gif")
    yield "gif-50000", gif[:6] + struct.pack("<HH", huge, huge) + gif[10:], "image"
    at = gif.index(b",\0\0\0\0")
    yield "gif-frame-50000", gif[: at + 5] + struct.pack("<HH", huge, huge) + gif[at + 9 :], "image"
    bmp = image("bmp")
    yield "bmp-50000", bmp[:18] + struct.pack("<ii", huge, huge) + bmp[26:], "image"
    yield "bmp-negative", bmp[:18] + struct.pack("<ii", -5, -5) + bmp[26:], "image"
    yield "webp-2^24", _webp_canvas(1 << 24, 1 << 24), "image"
    yield "webp-16383", _webp_canvas(16_383, 16_383), "image"
    yield "tiff-50000", _tiff({256: huge, 257: huge}), "image"
    yield "tiff-2^32", _tiff({256: 0xFFFFFFFF, 257: 0xFFFFFFFF}), "image"
    avif = image("avif")
    at = avif.index(b"ispe") + 8
    yield "avif-50000", avif[:at] + struct.pack(">II", huge, huge) + avif[at + 8 :], "image"
    rows = zlib.compress(bytes(12_001) * 12_000, 1)  # 144 MB of pixels in 0.6 MB
    yield "png-bomb", _png(12_000, 12_000, rows), "image"
    yield "png-bomb-inside", _png(64, 48, rows), "image"  # more pixels than declared


def _slow_images() -> Iterator[tuple[str, bytes, str | None]]:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (40 << 20), zip=True)
    yield "png-text-bomb", image(pnginfo=text), "image"
    profile = zlib.compress(bytes(40 << 20))
    png = image()
    chunk = _chunk(b"iCCP", b"p\0\0" + profile)
    yield "png-profile-bomb", png[:33] + chunk + png[33:], "image"
    yield "png-many-chunks", png[:33] + _chunk(b"tEXt", b"a\0b") * 50_000 + png[33:], "image"
    frames = [Image.new("L", (40, 30), n % 256) for n in range(300)]
    for name, kind in (("gif-endless", "GIF"), ("apng-endless", "PNG"), ("webp-endless", "WEBP")):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=1, loop=0)
        yield name, file.getvalue(), "image"
        if kind == "GIF":
            yield "gif-endless-video", file.getvalue(), "video"
    yield "tiff-loop", _tiff({}, next_directory=8), "image"
    yield "tiff-strips-beyond", _tiff({273: 0xFFFFFF00, 279: 0xFFFFFF00}), "image"
    yield "tiff-deep", _tiff({258: 0xFFFF, 277: 0xFFFF}), "image"
    progressive = image("jpeg", (4000, 4000), progressive=True)
    scan = progressive.rindex(b"\xff\xda")
    scans = progressive[scan:-2] * 20_000
    yield "jpeg-scans", (progressive[:scan] + scans)[: 10 << 20] + b"\xff\xd9", "image"


def _odd_videos(clip: bytes) -> Iterator[tuple[str, bytes, str | None]]:
    yield "mp4-65535", _set(clip, b"avc1", 28, struct.pack(">HH", 65535, 65535)), "video"
    yield "mp4-0-pixels", _set(clip, b"avc1", 28, bytes(4)), "video"
    forever = struct.pack(">I", 0x7FFFFFFF)
    yield "mp4-2^31-duration", _set(clip, b"mvhd", 20, forever), "video"
    yield "mp4-2^31-media", _set(clip, b"mdhd", 20, forever), "video"
    yield "mp4-2^31-frame", _set(clip, b"stts", 16, forever), "video"
    yield "mp4-2^31-frames", _set(clip, b"stts", 12, forever), "video"
    yield "mp4-no-clock", _set(clip, b"mdhd", 16, bytes(4)), "video"
    yield "mp4-2^32-times", _set(clip, b"stts", 8, b"\xff" * 4), "video"
    yield "mp4-2^32-sizes", _set(clip, b"stsz", 12, b"\xff" * 4), "video"
    yield "mp4-huge-samples", _set(clip, b"stsz", 8, b"\x7f\xff\xff\xff"), "video"
    yield "mp4-2^32-chunks", _set(clip, b"stco", 8, b"\xff" * 4), "video"
    yield "mp4-beyond", _set(clip, b"stco", 12, b"\xff\xff\xff\x00"), "video"
    yield "mp4-edits", _set(clip, b"elst", 12, b"\xff" * 12), "video"
    yield (
        "mp4-nested",
        b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(9000, 0, -1)),
        None,
    )
    yield "mp4-only-ftyp", clip[:32], "video"
    matroska = video(".mkv")
    yield "mkv-2^56", matroska[:4] + b"\x01" + b"\xff" * 7 + matroska[12:], "video"
    yield "mkv-void", matroska[:40] + b"\xec\x01\x00\x7f" + matroska[44:], "video"
    avi = bytearray(video(".avi"))
    avi[48:52] = forever[::-1]  # its number of frames
    yield "avi-2^31-frames", bytes(avi), "video"
    yield "ts-noise", b"".join(b"G" + bytes([n % 256]) * 187 for n in range(5000)), "video"
    yield "h264-noise", clip[:48] + np.random.default_rng(7).bytes(300_000), "video"


def _polyglots(clip: bytes) -> Iterator[tuple[str, bytes, str | None]]:
    yield "jpeg-zip", image("jpeg") + _zip(b"../../etc/passwd"), "image"
    yield "png-php", image() + b"<?php system($_GET[0]); ?>", "image"
    yield "gif-html", b"GIF89a/*<script>alert(1)</script>*/=1;", "image"
    yield "gif-script", image("gif")[:-1] + b"!\xfe\x10</x><script>//\0;", "image"
    yield "pdf-jpeg", b"%PDF-1.4\n" + image("jpeg"), None
    yield "mp4-zip", clip + _zip(b"x"), "video"
    playlist = b"RIFF\x20\x20\x20\x20AVI #EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    yield "avi-hls", playlist, "video"
    yield "avi-dash", b"RIFF\x20\x20\x20\x20AVI " + _DASH, "video"
    yield "box-dash", b"    free" + _DASH, "video"
    yield "box-hls", b"#EXTfree\n#EXTM3U\n/etc/passwd\n", "video"
    yield "bmp-postscript", b"BM%!PS-Adobe-3.0 EPSF-3.0\n", "image"
    reference = clip.replace(b"url \0\0\0\1", b"url \0\0\0\0")
    yield "mp4-reference", reference, "video"


def _zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../etc/cron.d/x", content)
    return file.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def _png(width: int, height: int, rows: bytes) -> bytes:
    """A grey PNG of 8 bits whose compressed rows are given."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _webp_canvas(width: int, height: int) -> bytes:
    """A WebP that declares a canvas, and holds a small animation."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _tiff(changes: dict[int, int], next_directory: int = 0) -> bytes:
    """A grey TIFF of 2 x 2 pixels with some of its fields changed."""
    fields = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 134, 277: 1, 278: 2, 279: 4} | changes
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, fields[tag]) for tag in sorted(fields))
    directory = struct.pack("<H", len(fields)) + entries + struct.pack("<I", next_directory)
    return (b"II*\0\x08\0\0\0" + directory).ljust(134, b"\0") + b"\x10\x20\x30\x40"


def _set(content: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Writes over a box of an MP4, so many bytes behind the start of its name."""
    at = content.index(box) + offset
    return content[:at] + value + content[at + len(value) :]
