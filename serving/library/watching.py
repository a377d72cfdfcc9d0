"""Folders, globs and lists -> a call whenever files of them are new, whole, changed or gone.

The system tells that something has changed, and a walk finds out: the walk alone is what counts, so
that nothing is missed where the system does not tell, as on network drives.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from reelseek.indexing.sources.collection import read_source
from reelseek.indexing.sources.killable import map_killably
from reelseek.serving.library.target import is_glob, source_folder

logger = logging.getLogger(__name__)

_POLL_SECONDS = 30.0  # between two walks where the system does not tell of changes
_TICK_SECONDS = 0.5  # between two walks while files change
_WALK_SHARE = 0.1  # of the time, that walks may take
_MAX_WAIT_SECONDS = 10.0  # of a whole file for others that are still being written
_TIMEOUT_SECONDS = 120.0  # of a file system that does not answer

Files: TypeAlias = "dict[str, tuple[int, int] | None]"  # size and time by path; None if unreadable


class Watcher:
    """Watches in threads of its own; calls for the first time when it knows what is there.

    Args:
        videos: absolute paths of folders, files and lists, which need not exist yet, and globs.
        on_change: called when files that are whole have come, changed or gone.
        images: whether the photos of folders count.
        rescan_seconds: after which all is walked again though nothing was told.
        settle_seconds: for which size and time of a file must stay the same.
    """

    def __init__(
        self,
        videos: Sequence[str],
        *,
        on_change: Callable[[], None],
        images: bool = False,
        rescan_seconds: float = 600.0,
        settle_seconds: float = 2.0,
    ) -> None:
        self._videos = list(videos)
        self._on_change = on_change
        self._scan = partial(_scan, images=images)
        self._rescan_seconds = rescan_seconds
        self._settle_seconds = settle_seconds
        self._told = threading.Event()
        self._stopped = threading.Event()
        self._known: Files = {}
        self._threads = [threading.Thread(target=self._watch, name="watch", daemon=True)]
        # One for each folder, though a shell may have named a thousand files of it. Of files and
        # lists the folder is watched: editors replace the file itself.
        listened = {
            (source_folder(name), False)
            if os.path.isfile(name)
            else (source_folder(name) if is_glob(name) else name, True)
            for name in videos
        }
        self._threads += [
            threading.Thread(target=self._listen, args=each, name="listen", daemon=True)
            for each in sorted(listened)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stopped.set()
        self._told.set()

    def _watch(self) -> None:
        self._known = self._look({})
        self._on_change()
        while not self._stopped.is_set():
            self._told.wait(self._rescan_seconds)
            self._told.clear()
            try:
                self._follow_changes()
            except Exception:
                logger.exception("the folders cannot be looked through")
                self._stopped.wait(_POLL_SECONDS)

    def _follow_changes(self) -> None:
        """Walks until nothing has changed any more, and calls as files become whole."""
        since: dict[str, tuple[object, float]] = {}  # a file's state, and when it was first seen
        waiting_since = 0.0
        while not self._stopped.is_set():
            started = time.monotonic()
            now = self._look(self._known)
            seen_at = time.monotonic()
            changed = {
                path
                for path in now.keys() | self._known.keys()
                if now.get(path, ()) != self._known.get(path, ())
            }
            if not changed:
                return
            since = {
                path: since[path]
                if path in since and since[path][0] == now.get(path, ())
                else (now.get(path, ()), seen_at)
                for path in changed
            }
            whole = {p for p in changed if seen_at - since[p][1] >= self._settle_seconds}
            waiting_since = (waiting_since or seen_at) if whole else 0.0
            if whole and (whole == changed or seen_at - waiting_since >= _MAX_WAIT_SECONDS):
                self._take(whole, now)
                waiting_since = 0.0
            self._stopped.wait(max(_TICK_SECONDS, (seen_at - started) / _WALK_SHARE))

    def _take(self, paths: set[str], now: Files) -> None:
        for path in paths:
            if path in now:
                self._known[path] = now[path]
            else:
                self._known.pop(path, None)
        logger.info("videos have changed", extra={"fields": {"files": len(paths)}})
        self._on_change()

    def _look(self, before: Files) -> Files:
        """Returns the files of all sources; those of one that does not answer as they were."""
        found: Files = {}
        answers = map_killably(self._scan, self._videos, timeout_seconds=_TIMEOUT_SECONDS)
        for name, answer in zip(self._videos, answers, strict=True):
            if isinstance(answer, Exception):
                folder = source_folder(name) if is_glob(name) else name
                answer = {p: v for p, v in before.items() if Path(p).is_relative_to(folder)}
            found |= answer
        return found

    def _listen(self, folder: str, recursive: bool) -> None:
        """Waits for the system to tell of changes; polls where it does not."""
        while not self._stopped.is_set():
            if os.path.exists(folder) and not _is_remote(folder):
                try:
                    self._listen_to_system(folder, recursive=recursive)
                except Exception as error:  # too many folders for the system, or it is gone
                    logger.warning("watched by looking every %d s: %s", _POLL_SECONDS, error)
            self._stopped.wait(_POLL_SECONDS)
            self._told.set()

    def _listen_to_system(self, folder: str, *, recursive: bool) -> None:
        from watchfiles import watch

        is_first = True
        for changes in watch(
            folder,
            watch_filter=None,
            stop_event=self._stopped,
            step=100,
            debounce=1000,
            recursive=recursive,
            ignore_permission_denied=True,
            raise_interrupt=False,
            rust_timeout=500,
            yield_on_timeout=True,
        ):
            if changes or is_first:  # nobody told of what came before the first
                self._told.set()
            is_first = False


def _scan(name: str, *, images: bool) -> Files:
    """Returns the files of one source, and the list itself where it is one."""
    try:
        paths = [str(item.path) for item in read_source(name, images=images).items]
    except ValueError:  # a list that is being written
        paths = []
    files: Files = {}
    for path in [*paths, name]:
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            files[path] = None
            continue
        if path != name or not os.path.isdir(name):
            files[path] = status.st_size, status.st_mtime_ns
    return files


def _is_remote(name: str) -> bool:
    """Whether other machines may change files there without this system's telling."""
    from reelseek.indexing.sources.mounts import is_remote

    return is_remote(Path(name))
