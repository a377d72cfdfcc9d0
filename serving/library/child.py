"""`python -m reelseek.serving.library.child PARENT_PID name=value ...`: a run of the indexer that
ends with the library process, whose successor would otherwise wait for its lock."""

import sys

from reelseek.configs import command_line
from reelseek.configs.schema import IndexConfig
from reelseek.vision.decoding.parent_death import die_with_parent


def end_with(parent: int) -> None:
    """Has this process killed when its parent ends; what is done is kept, however a run ends.

    Args:
        parent: id of the process that started it.
    """
    die_with_parent(parent)


def main(arguments: list[str]) -> None:
    parent, *options = arguments
    end_with(int(parent))
    from reelseek.indexing.__main__ import main as run_index

    command_line.run(run_index, IndexConfig, usage="", arguments=options)


if __name__ == "__main__":
    main(sys.argv[1:])
