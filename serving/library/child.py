"""`python -m reelseek.serving.library.child PARENT_PID name=value ...`: a run of the indexer that
ends with the library process, whose successor would otherwise wait for its lock."""

import ctypes
import os
import signal
import sys
from contextlib import suppress

from reelseek.configs import command_line
from reelseek.configs.schema import IndexConfig

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, *options = arguments
    with suppress(OSError, AttributeError):  # Linux alone has it
        # At once: what is done is kept, however the run ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before
        sys.exit(1)
    from reelseek.indexing.__main__ import main as run_index

    command_line.run(run_index, IndexConfig, usage="", arguments=options)


if __name__ == "__main__":
    main(sys.argv[1:])
