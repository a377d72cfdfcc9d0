"""`python -m indexing.merge`: see `reelseek merge`."""

from reelseek.configs import command_line
from reelseek.configs.schema import MergeConfig
from reelseek.indexing.tools.merge import USAGE, main

if __name__ == "__main__":
    command_line.run(main, MergeConfig, usage=USAGE)
