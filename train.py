"""`python train.py data.train=A.jsonl model=NAME output=DIR ...`: see `reelseek train`."""

from reelseek.configs import command_line
from reelseek.configs.train_schema import TrainConfig
from reelseek.training.command import USAGE, main

if __name__ == "__main__":
    command_line.run(main, TrainConfig, usage=USAGE)
