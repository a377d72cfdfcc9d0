"""`python -m indexing.export`: see `reelseek export`."""

from reelseek.configs import command_line
from reelseek.configs.schema import ExportConfig
from reelseek.indexing.tools.export import USAGE, main

if __name__ == "__main__":
    command_line.run(main, ExportConfig, usage=USAGE)
