"""`python -m indexing.verify`: see `reelseek verify`."""

from reelseek.configs import command_line
from reelseek.configs.schema import VerifyConfig
from reelseek.indexing.tools.verify import USAGE, main

if __name__ == "__main__":
    command_line.run(main, VerifyConfig, usage=USAGE)
