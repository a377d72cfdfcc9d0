"""What can go wrong with a video file."""


class VideoDecodeError(Exception):
    """A file gave no frames. Its message is the reason, written for the person who owns it."""
