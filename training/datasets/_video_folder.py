"""A folder of videos and a video's id -> its file."""

import logging
import os
from pathlib import Path

from reelseek.indexing import VideoItem
from reelseek.vision import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


class VideoFolder:
    """The videos under a folder, found by their names without suffix.

    Args:
        folder: walked once, recursively, without hidden files and folders. Of two files with one
            name, takes the one nearer to the top, then the first by name.

    Raises:
        ValueError: it is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"data.videos={folder}: no such folder")
        self._folder = Path(os.path.abspath(folder))
        self._by_stem: dict[str, Path] = {}
        self._by_start: dict[str, Path] = {}  # up to the first dot: `x.avi.mp4` is `x`
        num_doubles = 0
        for path in sorted(self._walk(), key=lambda path: (len(path.parts), path)):
            num_doubles += self._by_stem.setdefault(path.stem, path) is not path
            self._by_start.setdefault(path.name.partition(".")[0], path)
        if num_doubles:
            logger.warning("%s: %d files have the name of another video", folder, num_doubles)

    def item(self, video_id: str, captions: list[str], *, where: str) -> VideoItem:
        """Returns the video of an id, with its captions.

        Looks for `<id>.<suffix>`, then for a name that is the same up to the first dot (`x.avi` is
        `x.avi.mp4` or `x.mov`), then for one without ActivityNet's prefix `v_`. If none exists, the
        path is where the video would be expected.

        Args:
            video_id: as listed, with or without a suffix.
            captions: its sentences.
            where: the line or entry that lists it, for messages.

        Raises:
            ValueError: the id is not a file's name.
        """
        if not video_id.strip(".") or any(mark in video_id for mark in "/\\\0"):
            raise ValueError(f"{where}: {video_id!r} is not the name of a video")
        start = video_id.partition(".")[0]
        name = (
            self._by_stem.get(video_id)
            or self._by_start.get(start)
            or self._by_start.get(start.removeprefix("v_"))
            or Path(video_id if _is_video(video_id) else f"{video_id.rstrip('.')}.mp4")
        )
        return VideoItem(name.as_posix(), self._folder / name, {"captions": captions})

    def _walk(self) -> list[Path]:
        found = []
        for parent, folders, names in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [
                Path(parent, name).relative_to(self._folder)
                for name in names
                if not name.startswith(".") and _is_video(name)
            ]
        return found


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES
