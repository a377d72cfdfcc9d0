"""Keys that people send -> files below the configured folders, and never elsewhere."""

import os
from collections.abc import Sequence
from pathlib import Path

from reelseek.serving.library.errors import InvalidRequest, NotFound
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

MAX_KEY_LETTERS = 4096


class AddableRoots:
    """The folders below which videos may be added.

    Args:
        folders: that exist now or later.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self._folders = [Path(os.path.abspath(folder)) for folder in folders]

    def __bool__(self) -> bool:
        return bool(self._folders)

    def source(self, key: str) -> str:
        """Returns what `videos=` must say for the video with this key: its path, with `/./` where
        the root ends.

        Raises:
            InvalidRequest: the key is no path below a root, or the file is no video.
            NotFound: no root has such a file.
        """
        _check_key(key)
        for folder in self._folders:
            path = folder / key
            # Before anything is said of a file: what lies elsewhere is nobody's business.
            if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                raise InvalidRequest(f"{key}: leads out of its folder")
            if path.is_file():
                return f"{folder}/./{key}"
        raise NotFound(f"{key}: no such file below the folders of this service")


def _check_key(key: str) -> None:
    parts = key.split("/")
    if not key or len(key) > MAX_KEY_LETTERS or "\0" in key or "\\" in key:
        raise InvalidRequest("a video must be named by its path below a folder of this service")
    if key.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise InvalidRequest(f"{key}: must be a path below a folder of this service, without ..")
    if any(part.startswith(".") for part in parts):
        raise InvalidRequest(f"{key}: is hidden")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("the name of a video is not UTF-8") from None
    if Path(key).suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise InvalidRequest(f"{key}: has no suffix of a video")
