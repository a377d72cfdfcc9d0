"""Why there is no thumbnail or clip. Messages are for people and name no path.

They are ValueErrors, so that `serving.channel` hands the message and the class on.
"""


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


class MediaChanged(MediaError):
    """The file is not the one that was indexed."""
