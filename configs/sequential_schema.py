"""The types of the configuration of `recommendation/sequential`; see `configs.schema` for how they
are kept."""

from dataclasses import dataclass
from math import inf

from reelseek.configs.options import Options, Range, option, path_option, require
from reelseek.configs.schema import DEVICE


@dataclass
class SequentialNetworkConfig(Options, section="network"):
    dim: int = option("width of items and layers", Range(8, 2048))
    num_blocks: int = option("layers of attention", Range(1, 24))
    num_heads: int = option("of attention; must divide network.dim", Range(1))
    feedforward_factor: int = option(
        "width inside a layer's second part, times network.dim", Range(1)
    )
    max_length: int = option("last items of a history that are looked at", Range(1, 4096))
    dropout: float = option("inside the layers, while training", Range(0, below=1))
    item_dropout: float = option(
        "of the components of a history's items, while training", Range(0, below=1)
    )
    id_dropout: float = option(
        "how often an item with content is represented by its content alone, while training",
        Range(0, 1),
    )
    logit_scale: float = option("1/temperature of the cosine at the start; trained", Range(above=0))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.dim % self.num_heads == 0,
            "network.num_heads",
            self.num_heads,
            f"a divisor of network.dim={self.dim}",
        )


@dataclass
class SequentialLoopConfig(Options, section="loop"):
    epochs: int = option("passes over the sequences", Range(1))
    batch_events: int = option("events of a batch, padding included", Range(1))
    num_negatives: int = option("items drawn for a batch, shared by its events", Range(1))
    popularity_fraction: float = option(
        "of the negatives are drawn by how often items are chosen, the others alike", Range(0, 1)
    )
    lr: float = option("the learning rate after the warm-up", Range(above=0, below=inf))
    weight_decay: float = option("of matrices, not of items", Range(0, below=inf))
    warmup_steps: int = option("in which the learning rate rises", Range(0))
    max_grad_norm: float = option("gradients are scaled down to it", Range(above=0, below=inf))
    validation_users: int = option(
        "users whose last event is not learned from, but tells how much transitions count", Range(0)
    )
    save_every_seconds: float = option("between checkpoints", Range(0, below=inf))


@dataclass
class SequentialConfig(Options, command="sequential"):
    sequences: str = path_option("lines 'user item item ...' in order of time, all learned from")
    output: str = path_option("the folder for the model, made if missing")
    network: SequentialNetworkConfig = option("the transformer")
    loop: SequentialLoopConfig = option("the training")
    titles: str | None = path_option("a CSV with the header item,title", None)
    text_model: str = option("whose text tower embeds titles")
    ensemble: int = option(
        "networks of different seeds, whose probabilities are averaged", Range(1)
    )
    max_items_per_user: int = option(
        "a user's last items that are learned from, so that no user counts without bound", Range(1)
    )
    seed: int = option("of what is drawn at random", Range(0))
    device: str = option("where it is trained", DEVICE)
