"""Calls of a worker to the media process; what fails becomes an error of the API."""

from pathlib import Path
from typing import Any

from reelseek.serving.channel import Client, RemoteError, Unavailable
from reelseek.serving.errors import ApiError
from reelseek.serving.media.errors import (
    MediaBusy,
    MediaChanged,
    MediaMissing,
    MediaOutOfRange,
    MediaUnreadable,
)
from reelseek.serving.media.requests import BrowserClip, Probe, Thumbnail

_QUICK_SECONDS = 120.0  # for what waits and then reads a large file
_CLIP_SECONDS = 330.0
_RETRY_SECONDS = 2.0

# By the class of the media process's error.
_ERRORS = {
    MediaBusy.__name__: (503, "overloaded"),
    MediaUnreadable.__name__: (422, "cannot_decode"),
    MediaOutOfRange.__name__: (422, "out_of_range"),
    MediaMissing.__name__: (404, "file_missing"),
    MediaChanged.__name__: (410, "file_changed"),
}


class MediaClient:
    """Blocks; for threads.

    Args:
        client: of the media process; None where none runs.
    """

    def __init__(self, client: Client | None) -> None:
        self._client = client

    def thumbnail(self, request: Thumbnail) -> bytes:
        """Returns a JPEG.

        Raises:
            ApiError: there is none.
        """
        content: bytes = self._call("thumbnail", request, _QUICK_SECONDS)
        return content

    def clip(self, request: BrowserClip) -> Path | bytes:
        """Returns the path of an MP4 in the cache, or its content.

        Raises:
            ApiError: there is none.
        """
        made = self._call("clip", request, _CLIP_SECONDS)
        return Path(made["path"]) if "path" in made else made["content"]

    def probe(self, request: Probe) -> dict[str, Any]:
        """Returns the fields of `media.playing.probe`.

        Raises:
            ApiError: the file cannot be read.
        """
        found: dict[str, Any] = self._call("probe", request, _QUICK_SECONDS)
        return found

    def _call(self, name: str, request: Any, timeout_seconds: float) -> Any:
        if self._client is None:
            raise ApiError(503, "media_unavailable", "this service cuts no thumbnails and clips")
        try:
            return self._client.call(name, request, timeout_seconds=timeout_seconds)
        except RemoteError as error:
            raise media_error(error.code, str(error)) from error
        except Unavailable as error:
            raise ApiError(
                503,
                "media_unavailable",
                "the process that cuts thumbnails and clips does not answer; try again",
                retry_after_seconds=_RETRY_SECONDS,
            ) from error


def media_error(code: str, message: str) -> ApiError:
    """An error of the API for the class and message of one of media's."""
    status, name = _ERRORS.get(code, (500, "internal_error"))
    retry = _RETRY_SECONDS if status == 503 else None
    return ApiError(status, name, message, retry_after_seconds=retry)
