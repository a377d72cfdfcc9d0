"""`python -m indexing.shard`: see `reelseek shard`."""

from reelseek.configs import command_line
from reelseek.configs.schema import ShardConfig
from reelseek.indexing.tools.shard import USAGE, main

if __name__ == "__main__":
    command_line.run(main, ShardConfig, usage=USAGE)
