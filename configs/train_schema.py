"""The types of `train.py`'s configuration; see `configs.schema` for how they are kept."""

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any

from reelseek.configs.options import OneOf, Options, Range, option, path_option
from reelseek.configs.schema import DEVICE, DecodingConfig, ModelConfig, SamplingConfig

_PRECISION = OneOf(("auto", "fp32", "bf16"))  # 8 bits have no gradients


class Task(Enum):
    video = "video"
    text = "text"


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
class DataConfig(Options, section="data"):
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
        "data.weights.SOURCE=W: how often in an epoch the pairs are seen that have this `source`, "
        "or come from the list of this name; others once",
        Range(0, below=inf),
        default={},
    )
    max_tokens: int = option(
        "longer captions are cut for training; 0 reads what the model reads", Range(3, or_zero=True)
    )
    max_failed_fraction: float = option(
        "share of videos that may be missing or broken", Range(0, 1)
    )
    workers: int = option("batches that are read ahead, each by a thread; 0 is 1", Range(0))
    stream: bool = option(
        "decode the WebDataset shards of data.train beside training, in decoding.workers "
        "processes, without caching their frames"
    )
    shards_per_group: int = option("with stream: shards whose samples are mixed", Range(1))
    min_crop_area: float = option(
        "with stream: random crops of at least this share of a frame's area; 0 for the model's own "
        "crop",
        Range(0, 1),
    )


@dataclass
class TrainableConfig(Options, section="trainable"):
    image: TrainMode = option("in the image tower")
    text: TrainMode = option("in the text tower")
    num_blocks: int = option("for blocks: the last n of a tower", Range(1))
    lora_rank: int = option("for lora: rank of the adapters", Range(1))
    from_scratch: bool = option("begin with new weights; needs image=all and text=all")


@dataclass
class PoolingConfig(Options, section="pooling"):
    kind: PoolingKind | None = option("default: the model's own", default=None)
    num_layers: int = option("of the transformer", Range(1))
    num_heads: int = option("of the transformer; divides the embedding's dimension", Range(1))
    max_frames: int = option("frames the transformer has positions for", Range(1))
    hidden_dim: int = option("of the attention's scores", Range(1))

    def options(self) -> dict[str, Any] | None:
        """As `vision.make_pooling` takes them; None for the model's own pooling."""
        if self.kind is None:
            return None
        names = {"transformer": ("num_layers", "num_heads", "max_frames"), "mean": ()}
        own = names.get(self.kind.value, ("hidden_dim",))
        return {"kind": self.kind.value} | {name: getattr(self, name) for name in own}


@dataclass
class ObjectiveConfig(Options, section="objective"):
    loss: Loss = option("CLIP's, which is symmetric, or SigLIP's")
    logit_scale: float | None = option(
        "1 / temperature to start from; default: the model's", Range(1, 100), default=None
    )
    train_logit_scale: bool = option("learn it, up to 100")
    logit_bias: float = option("to start from, for sigmoid, where the model has none")
    label_smoothing: float = option("of infonce", Range(0, below=1))


@dataclass
class OptimizerConfig(Options, section="optimizer"):
    lr: float = option("peak learning rate of heads and pooling", Range(above=0))
    text_lr: float | None = option(
        "that of the text tower's head; default: lr", Range(above=0), default=None
    )
    pooling_lr: float | None = option(
        "that of the pooling; default: lr", Range(above=0), default=None
    )
    trunk_lr: float = option("peak learning rate of a trunk's last layer", Range(above=0))
    layer_decay: float = option(
        "of each layer before it, by the one after", Range(above=0, maximum=1)
    )
    weight_decay: float = option("of matrices", Range(0))
    warmup_steps: int = option("in which the rate rises", Range(0))
    max_grad_norm: float = option("gradients are clipped to it; 0 for no clipping", Range(0))
    wise_ft_alpha: float = option(
        "share of the starting weights in the model that comes out", Range(0, below=1)
    )


@dataclass
class LoopConfig(Options, section="loop"):
    epochs: int = option("times that each pair is seen", Range(1))
    batch_size: int = option("pairs of the contrastive batch, over all processes", Range(2))
    chunk_size: int = option("pairs in memory with their graph (GradCache); 0 for all", Range(0))
    accumulate_steps: int = option("batches whose gradients are averaged for a step", Range(1))
    frames_per_video: int = option(
        "frames of a video taken at random for a batch; 0 for all", Range(0)
    )
    feature_dropout: float = option("share of image features set to 0 in a step", Range(0, below=1))
    flip: bool = option("mirror half of the videos; only where the image trunk trains")
    compile: bool = option("torch.compile the trunks that train: pays where training takes hours")
    seed: int = option("of batches, frames and new weights", Range(0))
    eval_every: int = option("epochs from one evaluation to the next", Range(1))
    save_every_seconds: float = option(
        "from one checkpoint to the next; 0 saves each step", Range(0)
    )


@dataclass
class TextConfig(Options, section="text"):
    mlm_weight: float = option(
        "of masked-language modelling, against 1 for the contrastive loss; 0 for none", Range(0)
    )
    mask_fraction: float = option("share of a text's tokens to guess", Range(above=0, below=1))
    dropout: float = option(
        "of the text tower: a text and itself under other dropout are a pair", Range(0, below=1)
    )
    hashtags: bool = option("a text without its #hashtags and one of them are a pair as well")
    new_tokens: int = option(
        "words of data.train and pairs, the most frequent that the tokenizer lacks, to add to it",
        Range(0),
    )
    anchor_weight: float = option(
        "of staying near the embeddings of the start, against 1 for the contrastive loss", Range(0)
    )


@dataclass
class TrainConfig(Options, command="train", recipes="experiment"):
    task: Task = option(
        "what to learn from: captioned videos, or texts for the text tower alone", group="task"
    )
    data: DataConfig = option("captioned videos, or texts")
    pairs: list[str] = path_option(
        "task=text: pairs of texts, such as a query and a title: FILE or [FILE,FILE]", []
    )
    val_pairs: list[str] = path_option("task=text: pairs to evaluate on", [])
    model: ModelConfig = option(
        "preset, open_clip name or folder, where training starts", group="model"
    )
    sampling: SamplingConfig = option("which frames are looked at", group="sampling")
    decoding: DecodingConfig = option("how they are decoded")
    trainable: TrainableConfig = option("what trains")
    pooling: PoolingConfig = option("frames to a video embedding")
    objective: ObjectiveConfig = option("what is minimised")
    optimizer: OptimizerConfig = option("how")
    loop: LoopConfig = option("how long")
    text: TextConfig = option("task=text: what is learned from texts")
    eval_only: bool = option("evaluate the model on data.val and stop")
    num_bootstrap: int = option("resamples for the metrics' 95 % intervals; 0 for none", Range(0))
    output: str | None = path_option(
        "folder of the trained model, its metrics and checkpoints", None
    )
    device: str = option("where the model runs", DEVICE)
    precision: str = option("of the model's numbers", _PRECISION)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task is Task.text:
            self._check_text()
            return
        for name in ("pairs", "val_pairs"):
            if getattr(self, name):
                raise ValueError(f"{name} needs task=text; add it, or leave {name} out")
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
        self._check_streaming()
        if self.trainable.from_scratch and not image is text is TrainMode.all:
            raise ValueError(
                "trainable.from_scratch=true begins with new weights in both towers; add "
                "trainable.image=all trainable.text=all"
            )
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

    def _check_text(self) -> None:
        """Checks what `task=text` needs."""
        if self.eval_only:
            if not (self.data.val or self.val_pairs):
                raise ValueError("data.val is missing: name a file of texts, or val_pairs=FILE")
            return
        if not (self.data.train or self.pairs):
            raise ValueError(
                "data.train is missing: name a file with a text a line, or pairs=FILE, or add "
                "eval_only=true to evaluate a model"
            )
        if self.output is None:
            raise ValueError("output is missing: name a folder for the trained model")
        if self.trainable.text is TrainMode.frozen:
            raise ValueError(
                "trainable.text=frozen leaves nothing to train with task=text; choose heads, "
                "blocks, lora or all"
            )
        if self.trainable.image is not TrainMode.frozen:
            raise ValueError(
                f"trainable.image={self.trainable.image.value}: must be frozen with task=text, "
                "which has no images"
            )
        if self.objective.loss is not Loss.infonce:
            raise ValueError("objective.loss=sigmoid: must be infonce with task=text")
        of_videos = {
            "data.videos": self.data.videos,
            "data.captions": self.data.captions,
            "data.weights": self.data.weights,
            "data.stream": self.data.stream,
            "data.min_crop_area": self.data.min_crop_area,
            "trainable.from_scratch": self.trainable.from_scratch,
            "pooling.kind": self.pooling.kind,
            "loop.flip": self.loop.flip,
            "loop.compile": self.loop.compile,
        }
        if given := [name for name, value in of_videos.items() if value]:
            raise ValueError(
                f"{', '.join(given)}: for captioned videos only; leave out with task=text"
            )

    def _check_streaming(self) -> None:
        """Refuses options of lists with data.stream, and its own options without it."""
        data = self.data
        if not data.stream:
            if data.min_crop_area:
                raise ValueError(
                    f"data.min_crop_area={data.min_crop_area}: crops frames anew in each epoch, "
                    "and without data.stream=true they are cached; add data.stream=true"
                )
            return
        for name in ("videos", "captions", "weights"):
            if getattr(data, name) and not (data.val and name != "weights"):
                raise ValueError(
                    f"data.{name}: has no meaning with data.stream=true, whose shards bring "
                    f"everything themselves; leave it out"
                )
