"""Ends a process with its parent."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int | None = None) -> None:
    """Has this process killed when its parent ends; on Linux, which alone offers it.

    Args:
        parent: its id, by which this process, which took a while to get here, sees that it has
            ended before, and ends too; None not to look.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit(1)
