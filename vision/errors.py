"""What can go wrong with a video file."""

# Times beyond this are not a video's length but damage: a month.
MAX_DURATION_SECONDS = 30 * 24 * 3600.0


class VideoDecodeError(Exception):
    """A file gave no frames. Its message is the reason, written for the person who owns it."""


class UnsuitableDecoderError(VideoDecodeError):
    """One decoder does not read the file, or not all of it; another one may."""
