"""The interface of programs that read or hear videos: indexed videos in, their texts out."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from reelseek.indexing.sources.diff import file_signature
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.store.videos import VideoRecord
from reelseek.text.urls import is_url
from reelseek.vision import VideoDecodeError


class ReadVideo(NamedTuple):
    """A video that has been read or heard.

    Attributes:
        texts: all that were found; None where it could not be read.
        reason: why it could not be read; else empty.
    """

    record: VideoRecord
    texts: list[TimedText] | None
    reason: str = ""


class TextReader(Protocol):
    """Finds the texts of one source.

    Attributes:
        source: `ocr` or `speech`.
        engine: its name, version and model, which is stored with the texts.
    """

    source: str
    engine: str

    def read(self, records: Iterable[VideoRecord]) -> Iterator[ReadVideo]:
        """Reads videos, each taken when there is time for it; yields them as they are done."""
        ...


def why_not_the_same(record: VideoRecord) -> str:
    """Returns why a video's file is not the indexed one; empty where it is."""
    if is_url(record.path):
        return "it is at a URL; only local files are read"
    path = Path(record.path)
    try:
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (
            record.signature.size_bytes,
            record.signature.modified_ns,
        ):
            return ""
        is_same = file_signature(path).content_sha256 == record.signature.content_sha256
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    except VideoDecodeError as error:
        return str(error)
    return "" if is_same else "it has changed since it was indexed: run reelseek index first"
