"""The files of a learner's folder -> the same files where servers on other machines read them.

The folder stays what the learner goes on from. What cannot be copied now is copied later.
"""

import logging
import time
from collections.abc import Callable

from reelseek.recommendation.learning.files import EPOCH, FolderFiles, PublishedFiles

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Publisher:
    """Copies the files of one epoch.

    Args:
        source: the learner's folder.
        target: the copy.
        wanted: returns the names of the files to copy, in their order.
        clock: gives seconds, which only grow.
    """

    def __init__(
        self,
        source: FolderFiles,
        target: PublishedFiles,
        *,
        wanted: Callable[[], list[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._target, self._wanted, self._clock = source, target, wanted, clock
        self._known: set[str] | None = None  # in the target; None after an error
        self._retry_at = float("-inf")
        self._epoch = 0

    def last_epoch(self) -> int:
        """Returns the last that has begun in the target.

        Raises:
            RedisUnavailable: it cannot be reached.
        """
        try:
            return int(self._target.read(EPOCH))
        except FileNotFoundError:
            return 0

    def begin(self, epoch: int) -> None:
        """Refuses from now on what learners of earlier epochs write.

        Raises:
            EpochEnded: a later one has begun already.
            RedisUnavailable: the target cannot be reached.
        """
        self._target.begin(epoch)
        self._epoch = epoch

    def publish(self) -> bool:
        """Copies what is missing, and deletes what the folder no longer has; returns whether the
        target is as the folder.

        Raises:
            EpochEnded: another learner has taken over.
        """
        if self._clock() < self._retry_at:
            return False
        wanted = self._wanted()
        if not wanted or self._known == set(wanted):
            return True
        try:
            if self._known is None:
                self._known = set(self._target.names()) - {EPOCH}
            for name in wanted:
                if name not in self._known:
                    content = self._source.read(name)
                    self._target.write(name, content, epoch=self._epoch)
                    self._known.add(name)
            # What is obsolete goes last: readers need it until then.
            obsolete = self._known - set(wanted)
            self._target.delete(sorted(obsolete), epoch=self._epoch)
            self._known -= obsolete
        except ConnectionError as error:
            logger.warning("the model is not published, and will be later: %s", error)
            self._known, self._retry_at = None, self._clock() + _RETRY_SECONDS
            return False
        return True

    def publish_status(self, content: bytes, *, kept_seconds: float) -> None:
        """Replaces what the learner says of itself; without the target, nothing is said.

        Raises:
            EpochEnded: another learner has taken over.
        """
        if self._clock() < self._retry_at:
            return
        try:
            self._target.write_status(content, epoch=self._epoch, kept_seconds=kept_seconds)
        except ConnectionError as error:
            logger.info("the status is not published: %s", error)
            self._retry_at = self._clock() + _RETRY_SECONDS
