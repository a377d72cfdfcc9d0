"""Errors about a video file."""

# Longer times are damage, not the length of a video: a month.
MAX_DURATION_SECONDS = 30 * 24 * 3600.0


class VideoDecodeError(Exception):
    """A file gave no frames. The message states the reason to the file's owner."""


class UnsuitableDecoderError(VideoDecodeError):
    """One decoder cannot read the file, or not all of it; another decoder may."""
