"""What the media process is asked for. Seconds count from a video's first frame."""

from dataclasses import dataclass

from reelseek.indexing.store.videos import VideoRecord

MAX_CLIP_SECONDS = 60.0
MIN_WIDTH, MAX_WIDTH = 16, 1920  # of a thumbnail, in pixels


@dataclass(frozen=True)
class MediaFile:
    """A file of the index, with what tells whether it is still the one that was indexed."""

    path: str
    size_bytes: int
    modified_ns: int
    content_sha256: str

    @classmethod
    def of(cls, record: VideoRecord) -> "MediaFile":
        signature = record.signature
        return cls(
            record.path, signature.size_bytes, signature.modified_ns, signature.content_sha256
        )


@dataclass(frozen=True)
class Thumbnail:
    """The frame on screen at a second, as a JPEG of at most this width in pixels."""

    file: MediaFile
    seconds: float
    width: int

    @property
    def key(self) -> str:
        """Names the answer; equal requests have equal keys."""
        return f"{self.file.content_sha256}-{_milliseconds(self.seconds)}-{self.width}.jpg"


@dataclass(frozen=True)
class BrowserClip:
    """`[start_seconds, end_seconds)` as an MP4 that browsers play."""

    file: MediaFile
    start_seconds: float
    end_seconds: float

    @property
    def key(self) -> str:
        """Names the answer; equal requests have equal keys."""
        start, end = _milliseconds(self.start_seconds), _milliseconds(self.end_seconds)
        return f"{self.file.content_sha256}-{start}-{end}.mp4"


@dataclass(frozen=True)
class Probe:
    """Whether browsers play the file as it is."""

    file: MediaFile


MediaRequest = Thumbnail | BrowserClip | Probe


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
