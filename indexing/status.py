"""`python -m indexing.status`: see `reelseek status`."""

from reelseek.configs import command_line
from reelseek.configs.schema import StatusConfig
from reelseek.indexing.tools.status import USAGE, main

if __name__ == "__main__":
    command_line.run(main, StatusConfig, usage=USAGE)
