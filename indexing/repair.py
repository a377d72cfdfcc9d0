"""`python -m indexing.repair`: see `reelseek repair`."""

from reelseek.configs import command_line
from reelseek.configs.schema import RepairConfig
from reelseek.indexing.tools.repair import USAGE, main

if __name__ == "__main__":
    command_line.run(main, RepairConfig, usage=USAGE)
