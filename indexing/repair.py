"""`python -m indexing.repair`: see `reelseek repair`."""

from reelseek.configs import command_line
from reelseek.indexing.tools.repair import USAGE, main

if __name__ == "__main__":
    command_line.run(main, config_name="repair", usage=USAGE)
