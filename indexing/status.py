"""`python -m indexing.status`: see `reelseek status`."""

from reelseek.configs import command_line
from reelseek.indexing.tools.status import USAGE, main

if __name__ == "__main__":
    command_line.run(main, config_name="status", usage=USAGE)
