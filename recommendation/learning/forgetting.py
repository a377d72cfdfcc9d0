"""Whether the files of a model name users who were deleted since, and when to remove them.

A user is removed from the state at once, but earlier files still have the pseudonym. A mark in the
folder says so, as the process may be killed before they are gone.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reelseek.recommendation.learning.files import FolderFiles

__all__ = ["Forgetting"]

_MARK = "forgetting"
_LEAST_SECONDS = 60.0
_LEAST_PAUSE = 20.0  # times as long as it took, so that a large model has time to learn


class Forgetting:
    """Says when it is time to write the state anew, which takes as long as the model is large.

    Args:
        files: of the folder.
        least_seconds: between two times, so that many deletions cost no more than one; longer
            where it takes long.
        clock: gives seconds that grow.
    """

    def __init__(
        self,
        files: FolderFiles,
        *,
        least_seconds: float = _LEAST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files, self._least_seconds, self._clock = files, least_seconds, clock
        self._is_marked = _MARK in files.names()
        self._due_at = -math.inf

    @property
    def is_due(self) -> bool:
        return self._is_marked and self._clock() >= self._due_at

    def note_deletion(self) -> None:
        """Notes that a user was deleted; before the state without the user is stored."""
        if not self._is_marked:
            self._files.write(_MARK, b"")
            self._is_marked = True

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Notes, where the block ends without an error, that no file names a deleted user."""
        began_at = self._clock()
        yield
        self._files.delete(_MARK)
        self._is_marked = False
        now = self._clock()
        self._due_at = now + max(self._least_seconds, _LEAST_PAUSE * (now - began_at))
