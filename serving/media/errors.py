"""Why there is no thumbnail or clip. Messages are for people and name no path.

They are ValueErrors, so that `serving.channel` hands the message and the class on.
"""

from reelseek.text.urls import is_url


class MediaError(ValueError):
    """Base class."""


class MediaBusy(MediaError):
    """Too many wait; the same call may succeed in a few seconds."""


class MediaUnreadable(MediaError):
    """The video does not decode, or its decoder hung or crashed."""


class MediaOutOfRange(MediaError):
    """The video is over before the clip begins."""


class MediaMissing(MediaError):
    """The file is not there, as of a drive that is unplugged."""


def why_missing(path: str) -> str:
    """Returns why the file of a video cannot be opened; names no path."""
    if is_url(path):
        return "its file is at a URL; only files on the server's own file systems are shown"
    return "its file is not there"


class MediaChanged(MediaError):
    """The file is not the one that was indexed."""
