"""Uploaded files before they are decoded: their kinds, sizes, and places on disk.

Imports neither a decoder nor the model, so that HTTP workers may use it.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from anyio import to_thread

from reelseek.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from reelseek.configs.schema import ServeConfig

Kind = Literal["image", "video"]
KIND_NAMES: dict[Kind, str] = {"image": "an image", "video": "a video"}

_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 64 << 10
_HEAD_BYTES = 4096
_TS_PACKET_BYTES = 188

GIF_STARTS = (b"GIF87a", b"GIF89a")  # moving or not: an image or a video
_IMAGE_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"BM",
    b"II*\0",
    b"MM\0*",
)
_IMAGE_BRANDS = (b"avif", b"avis")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot", b"styp")
_VIDEO_STARTS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    *GIF_STARTS,
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
    b"\0\0\x01\xba",  # MPEG-PS
    b"\0\0\x01\xb3",  # MPEG-1 and -2 video
)


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of uploads.

    Attributes:
        max_image_bytes: Size of an image's file.
        max_video_bytes: Size of a video's file.
        max_pixels: Of an image, or of a frame of a video.
        timeout_seconds: To decode one file.
        memory_bytes: Resident memory of a worker; at least 1 GB, since the libraries alone take
            half of it.
        num_workers: Files decoded at the same time.
        max_wait_seconds: For a worker that is free.
    """

    max_image_bytes: int = 20 << 20
    max_video_bytes: int = 200 << 20
    max_pixels: int = 64_000_000
    timeout_seconds: float = 20.0
    memory_bytes: int = 3 << 29
    num_workers: int = 1
    max_wait_seconds: float = 10.0

    @classmethod
    def from_config(cls, config: "ServeConfig") -> "UploadLimits":
        return cls(
            max_image_bytes=int(config.upload_image_mb * (1 << 20)),
            max_video_bytes=int(config.upload_video_mb * (1 << 20)),
            max_pixels=int(config.upload_megapixels * 1e6),
            timeout_seconds=config.upload_seconds,
        )

    def max_bytes_of(self, kind: Kind) -> int:
        return self.max_image_bytes if kind == "image" else self.max_video_bytes


@dataclass
class UploadForm:
    """A form with files. `files` are pairs of a file and the kind it was sent as."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[tuple[Path, Kind]] = field(default_factory=list)


@asynccontextmanager
async def upload_form(
    request: "Request", *, limits: UploadLimits, folder: Path | None, max_files: int = 4
) -> AsyncIterator[UploadForm]:
    """Reads a multipart form; its files exist until the end of the block.

    Args:
        request: Its files come in fields called `image` and `video`.
        limits: Bounds of each file.
        folder: For the files; private to this user.
        max_files: Files that a form may have.

    Raises:
        ApiError: A file is too large, in a field of another name, or the disk is full.
    """
    form = await request.form(
        max_files=max_files, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    result = UploadForm()
    with ExitStack() as stack:
        try:
            for name, value in form.multi_items():
                if isinstance(value, str):
                    result.fields[name] = value
                    continue
                kind = _kind_of_field(name)
                if (value.size or 0) > limits.max_bytes_of(kind):
                    raise ApiError(413, "too_large", too_large(kind, limits.max_bytes_of(kind)))
                path, file = stack.enter_context(private_file(folder))
                try:
                    await to_thread.run_sync(_copy, value.file, file)
                except OSError as error:
                    raise ApiError(507, "disk_full", "there is no room for the file") from error
                result.files.append((path, kind))
        finally:
            await form.close()
        yield result


def _kind_of_field(name: str) -> Kind:
    for kind in KIND_NAMES:
        if name == kind:
            return kind
    raise ApiError(400, "invalid_request", "files are sent in fields called image and video")


def _copy(source: Any, target: BinaryIO) -> None:
    shutil.copyfileobj(source, target, 1 << 20)
    target.flush()


def kind_of(head: bytes) -> Kind | None:
    """Judges a file by its first bytes; None for neither an image nor a video."""
    if head.startswith(_IMAGE_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        return "image"
    if head[4:8] in _BOXES or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    is_ts = all(head[at : at + 1] == b"G" for at in (0, _TS_PACKET_BYTES, 2 * _TS_PACKET_BYTES))
    is_m2ts = all(
        head[at : at + 1] == b"G" for at in (4, _TS_PACKET_BYTES + 8, 2 * _TS_PACKET_BYTES + 12)
    )
    return "video" if is_ts or is_m2ts or head.startswith(_VIDEO_STARTS) else None


def read_head(path: Path) -> bytes:
    """Returns as much of a file as `kind_of` looks at."""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def too_large(kind: Kind, max_bytes: int) -> str:
    return f"{KIND_NAMES[kind]} may have at most {max_bytes / (1 << 20):.3g} MiB"


@contextmanager
def private_file(folder: Path | None) -> Iterator[tuple[Path, BinaryIO]]:
    """Makes a file that only this user can read, and removes it at the end of the block.

    It has a name of its own: no name that a client gives comes near the file system.
    """
    descriptor, name = tempfile.mkstemp(prefix="upload-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)
