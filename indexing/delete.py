"""`python -m indexing.delete`: see `reelseek delete`."""

from reelseek.configs import command_line
from reelseek.configs.schema import DeleteConfig
from reelseek.indexing.tools.delete import USAGE, main

if __name__ == "__main__":
    command_line.run(main, DeleteConfig, usage=USAGE)
