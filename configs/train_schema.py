"""The types of `train.py`'s configuration; see `configs.schema` for how they are kept."""

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from reelseek.configs.schema import DecodingConfig, ModelConfig, option, path_option, require

if TYPE_CHECKING:
    from reelseek.training.network import TowerPlan


class Loss(Enum):
    infonce = "infonce"
    sigmoid = "sigmoid"


class TrainMode(Enum):
    frozen = "frozen"
    heads = "heads"
    blocks = "blocks"
    lora = "lora"
    all = "all"


class PoolingKind(Enum):
    mean = "mean"
    transformer = "transformer"
    attention = "attention"


@dataclass
class DataConfig:
    train: list[str] = path_option("captioned videos to train on: FILE or [FILE,FILE]", [])
    val: list[str] = path_option("captioned videos to evaluate on: FILE or [FILE,FILE]", [])
    videos: str | None = path_option("folder of the videos that a published list names by id", None)
    captions: str | None = path_option(
        "file of captions, where a published list has none itself", None
    )
    cache: str | None = path_option(
        "folder of decoded frames and captions' features; default: in the user's cache", None
    )
    weights: dict[str, float] = option(
        "data.weights.SOURCE=W: how often in an epoch the pairs are seen of what a list calls "
        "`source`, or of the list of this name; others once",
        {},
    )
    max_tokens: int = option("longer captions are cut for training; 0 reads what the model reads")
    max_failed_fraction: float = option("share of videos that may be missing or broken; 0 to 1")
    workers: int = option("threads that read batches ahead; 0 is 1")

    def __post_init__(self) -> None:
        require(
            self.max_tokens == 0 or self.max_tokens >= 3,
            "data.max_tokens",
            self.max_tokens,
            "0, or at least 3",
        )
        require(
            0 <= self.max_failed_fraction <= 1,
            "data.max_failed_fraction",
            self.max_failed_fraction,
            "0 to 1",
        )
        require(self.workers >= 0, "data.workers", self.workers, "0 or more")
        for name, weight in self.weights.items():
            require(0 <= weight < inf, f"data.weights.{name}", weight, "0 or more, finite")


@dataclass
class TrainableConfig:
    image: TrainMode = option("in the image tower: frozen, heads, blocks, lora, all")
    text: TrainMode = option("in the text tower: frozen, heads, blocks, lora, all")
    num_blocks: int = option("for blocks: how many of a tower's last; at least 1")
    lora_rank: int = option("for lora: rank of the adapters; at least 1")

    def __post_init__(self) -> None:
        require(self.num_blocks >= 1, "trainable.num_blocks", self.num_blocks, "at least 1")
        require(self.lora_rank >= 1, "trainable.lora_rank", self.lora_rank, "at least 1")

    def plans(self) -> "tuple[TowerPlan, TowerPlan]":
        """Of the image tower and of the text tower."""
        from reelseek.training.network import TowerPlan

        image, text = (
            TowerPlan(what.value, num_blocks=self.num_blocks, lora_rank=self.lora_rank)
            for what in (self.image, self.text)
        )
        return image, text


@dataclass
class PoolingConfig:
    kind: PoolingKind | None = option(
        "mean, transformer or attention; default: the model's own", None
    )
    num_layers: int = option("of the transformer; at least 1")
    num_heads: int = option("of the transformer; divides the embedding's dimension")
    max_frames: int = option("frames the transformer has positions for; at least 1")
    hidden_dim: int = option("of the attention's scores; at least 1")

    def __post_init__(self) -> None:
        for name in ("num_layers", "num_heads", "max_frames", "hidden_dim"):
            value = getattr(self, name)
            require(value >= 1, f"pooling.{name}", value, "at least 1")

    def options(self) -> dict[str, Any] | None:
        """As `vision.make_pooling` takes them; None for the model's own pooling."""
        if self.kind is None:
            return None
        names = {"transformer": ("num_layers", "num_heads", "max_frames"), "mean": ()}
        own = names.get(self.kind.value, ("hidden_dim",))
        return {"kind": self.kind.value} | {name: getattr(self, name) for name in own}


@dataclass
class ObjectiveConfig:
    loss: Loss = option("infonce (CLIP's, symmetric) or sigmoid (SigLIP's)")
    logit_scale: float | None = option("1 / temperature to start from; default: the model's", None)
    train_logit_scale: bool = option("learn it, up to 100")
    logit_bias: float = option("to start from, for sigmoid, where the model has none")
    label_smoothing: float = option("of infonce; 0 to less than 1")

    def __post_init__(self) -> None:
        scale = self.logit_scale
        require(scale is None or 1 <= scale <= 100, "objective.logit_scale", scale, "1 to 100")
        require(
            0 <= self.label_smoothing < 1,
            "objective.label_smoothing",
            self.label_smoothing,
            "0 to less than 1",
        )


@dataclass
class OptimizerConfig:
    lr: float = option("peak learning rate of heads and pooling; more than 0")
    text_lr: float | None = option("that of the text tower's head; default: lr", None)
    pooling_lr: float | None = option("that of the pooling; default: lr", None)
    trunk_lr: float = option("peak learning rate of a trunk's last layer; more than 0")
    layer_decay: float = option("of each layer before it, by the one after; more than 0, at most 1")
    weight_decay: float = option("of matrices; 0 or more")
    warmup_steps: int = option("in which the rate rises; 0 or more")
    max_grad_norm: float = option("gradients are clipped to it; 0 for no clipping")
    wise_ft_alpha: float = option(
        "share of the starting weights in the model that comes out; 0 to less than 1"
    )

    def __post_init__(self) -> None:
        for name in ("lr", "trunk_lr"):
            value = getattr(self, name)
            require(value > 0, f"optimizer.{name}", value, "more than 0")
        for name in ("text_lr", "pooling_lr"):
            value = getattr(self, name)
            require(value is None or value > 0, f"optimizer.{name}", value, "more than 0")
        require(
            0 < self.layer_decay <= 1,
            "optimizer.layer_decay",
            self.layer_decay,
            "more than 0, at most 1",
        )
        for name in ("weight_decay", "warmup_steps", "max_grad_norm"):
            value = getattr(self, name)
            require(value >= 0, f"optimizer.{name}", value, "0 or more")
        require(
            0 <= self.wise_ft_alpha < 1,
            "optimizer.wise_ft_alpha",
            self.wise_ft_alpha,
            "0 to less than 1",
        )


@dataclass
class LoopConfig:
    epochs: int = option("times that each pair is seen; at least 1")
    batch_size: int = option("pairs of the contrastive batch, over all processes; at least 2")
    chunk_size: int = option("pairs in memory with their graph (GradCache); 0 for all")
    accumulate_steps: int = option("batches whose gradients are averaged for a step; at least 1")
    frames_per_video: int = option("frames of a video taken at random for a batch; 0 for all")
    feature_dropout: float = option("share of image features set to 0 in a step; 0 to less than 1")
    flip: bool = option("mirror half of the videos; only where the image trunk trains")
    compile: bool = option("torch.compile the trunks that train: pays where training takes hours")
    seed: int = option("of batches, frames and new weights; 0 or more")
    eval_every: int = option("epochs from one evaluation to the next; at least 1")
    save_every_seconds: float = option("from one checkpoint to the next; 0 saves each step")

    def __post_init__(self) -> None:
        require(self.batch_size >= 2, "loop.batch_size", self.batch_size, "at least 2")
        require(
            0 <= self.feature_dropout < 1,
            "loop.feature_dropout",
            self.feature_dropout,
            "0 to less than 1",
        )
        for name in ("epochs", "accumulate_steps", "eval_every"):
            value = getattr(self, name)
            require(value >= 1, f"loop.{name}", value, "at least 1")
        for name in ("chunk_size", "frames_per_video", "seed", "save_every_seconds"):
            value = getattr(self, name)
            require(value >= 0, f"loop.{name}", value, "0 or more")


@dataclass
class TrainConfig:
    data: DataConfig = option("captioned videos")
    model: ModelConfig = option("preset, open_clip name or folder, where training starts")
    sampling: Any = option("which frames are looked at: uniform, interval, keyframes or shots")
    decoding: DecodingConfig = option("how they are decoded")
    trainable: TrainableConfig = option("what trains")
    pooling: PoolingConfig = option("frames to a video embedding")
    objective: ObjectiveConfig = option("what is minimised")
    optimizer: OptimizerConfig = option("how")
    loop: LoopConfig = option("how long")
    eval_only: bool = option("evaluate the model on data.val and stop")
    num_bootstrap: int = option("resamples for the metrics' 95 % intervals; 0 for none")
    output: str | None = path_option(
        "folder of the trained model, its metrics and checkpoints", None
    )
    device: str = option("auto, cpu, cuda, cuda:N")
    precision: str = option("auto, fp32, bf16")

    def __post_init__(self) -> None:
        require(self.num_bootstrap >= 0, "num_bootstrap", self.num_bootstrap, "0 or more")
        if self.eval_only:
            if not self.data.val:
                raise ValueError("data.val is missing: name a .jsonl with `video` and `captions`")
            return
        if not self.data.train:
            raise ValueError(
                "data.train is missing: name a .jsonl with `video` and `captions`, or add "
                "eval_only=true to evaluate a model"
            )
        if self.output is None:
            raise ValueError("output is missing: name a folder for the trained model")
        image, text = self.trainable.image, self.trainable.text
        if self.loop.flip and image in (TrainMode.frozen, TrainMode.heads):
            raise ValueError(
                "loop.flip=true mirrors pixels, and where the image trunk is frozen its features "
                "are cached; leave it out, or choose trainable.image=blocks, lora or all"
            )
        if image is text is TrainMode.frozen and self.pooling.kind is PoolingKind.mean:
            raise ValueError(
                "trainable.image=frozen, trainable.text=frozen and pooling.kind=mean leave nothing "
                "to train; choose heads, blocks, lora or all, or another pooling"
            )
