"""A dual encoder with trainable parts: batches -> video and text embeddings."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reelseek.configs.train_schema import TrainableConfig
from reelseek.text import strip_padding
from reelseek.training.batches import Batch
from reelseek.training.lora import add_lora, merged
from reelseek.training.towers import split_image_tower, split_text_tower, trunk_layers
from reelseek.vision import DualEncoder, Pooling, model_fingerprint

TRAIN_MODES = ("frozen", "heads", "blocks", "lora", "all")
_MAX_LOG_SCALE = math.log(100)  # as in CLIP (Radford et al. 2021, section 2.5)


@dataclass(frozen=True)
class TowerPlan:
    """The parts of a tower that train.

    Attributes:
        mode: `frozen`; `heads`, the last projection; `blocks`, that and the trunk's last blocks;
            `lora`, that and low-rank adapters in all blocks; `all`.
        num_blocks: for `blocks`.
        lora_rank: for `lora`.
    """

    mode: str = "heads"
    num_blocks: int = 1
    lora_rank: int = 8

    def __post_init__(self) -> None:
        if self.mode not in TRAIN_MODES:
            raise ValueError(f"mode is {self.mode!r}: must be one of {TRAIN_MODES}")

    @property
    def trunk_trains(self) -> bool:
        return self.mode in ("blocks", "lora", "all")


def tower_plans(config: TrainableConfig) -> tuple[TowerPlan, TowerPlan]:
    """Returns the plans of the image tower and of the text tower."""
    image, text = (
        TowerPlan(mode.value, num_blocks=config.num_blocks, lora_rank=config.lora_rank)
        for mode in (config.image, config.text)
    )
    return image, text


class Tower(nn.Module):
    """A trunk and a head.

    Args:
        trunk: inputs to features; not run where features are given.
        head: features to `D`.
        plan: which parameters take gradients.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, plan: TowerPlan) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.plan = plan
        trunk.requires_grad_(False)
        head.requires_grad_(plan.mode != "frozen")
        if plan.mode == "lora":
            add_lora(trunk, rank=plan.lora_rank)
        elif plan.mode == "all":
            trunk.requires_grad_(True)
        elif plan.mode == "blocks":
            _, *blocks, after = trunk_layers(trunk)
            if plan.num_blocks > len(blocks):
                raise ValueError(
                    f"trainable.num_blocks={plan.num_blocks}: this tower has {len(blocks)} blocks; "
                    "choose fewer, or all"
                )
            for layer in [*blocks[-plan.num_blocks :], after]:
                for parameter in layer:
                    parameter.requires_grad_(True)

    def forward(
        self,
        inputs: torch.Tensor,
        *,
        are_features: bool,
        drop: Callable[[torch.Tensor], torch.Tensor] = lambda features: features,
    ) -> torch.Tensor:
        """`(N, ...)` to `(N, D)` float32, L2-normalised; `drop` is applied to the features."""
        if not are_features:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.plan.trunk_trains):
                inputs = self.trunk(inputs)
            # CoCa's towers also return their tokens.
            inputs = inputs[0] if isinstance(inputs, tuple) else inputs
        return F.normalize(self.head(drop(inputs)).float(), dim=-1)


class Network(nn.Module):
    """A dual encoder in training.

    The network owns the model's modules and changes them in place. They stay in evaluation mode:
    batch statistics are those of the pretrained model, and a forward pass is deterministic but for
    `feature_dropout`.

    Args:
        model: where training starts.
        image: of the image tower.
        text: of the text tower.
        pooling: frame embeddings to a video embedding; trains where it has parameters.
        logit_scale: 1 / temperature to start from; None for the model's own.
        train_logit_scale: whether it is learned; it is kept at 100 at most.
        logit_bias: to start from where the model has none, for the sigmoid loss; None to have none.
        feature_dropout: fraction of a video's image features that a training step sets to 0, the
            same in all its frames.

    Raises:
        ValueError: no parameter would train.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        image: TowerPlan,
        text: TowerPlan,
        pooling: Pooling,
        logit_scale: float | None = None,
        train_logit_scale: bool = True,
        logit_bias: float | None = None,
        feature_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._model = replace(model, pooling=pooling)
        self._feature_dropout = feature_dropout
        clip = model.clip
        self.image = Tower(*split_image_tower(clip), image)
        self.text = Tower(*split_text_tower(clip), text)
        self.pooling = pooling
        self.logit_scale: nn.Parameter = clip.logit_scale
        if logit_scale is not None:
            self.logit_scale.data.fill_(float(torch.tensor(logit_scale).log()))
        self.logit_bias: nn.Parameter | None = None
        if logit_bias is not None:
            own = clip.logit_bias
            self.logit_bias = nn.Parameter(torch.tensor(logit_bias)) if own is None else own
        pooling.requires_grad_(True)
        if not any(parameter.requires_grad for parameter in self._weights()):
            raise ValueError(
                f"trainable.image={image.mode} and trainable.text={text.mode} train nothing of "
                "this model, whose towers may have no head of their own; choose blocks, lora, all, "
                "or pooling.kind=attention"
            )
        self.logit_scale.requires_grad_(train_logit_scale)
        if self.logit_bias is not None:
            self.logit_bias.requires_grad_(True)
        self.eval()

    def train(self, mode: bool = True) -> "Network":
        """Turns feature dropout on or off; all modules stay in evaluation mode."""
        super().train(False)
        self.training = mode
        return self

    def forward(
        self, batch: Batch
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Returns video and text embeddings, `(B, D)` each, 1 / temperature, and the bias."""
        videos = self.embed_videos(batch.frames, batch.num_frames)
        texts = self.embed_texts(batch.text)
        return videos, texts, self.logit_scale.exp(), self.logit_bias

    def embed_videos(self, frames: torch.Tensor, num_frames: torch.Tensor) -> torch.Tensor:
        """`(B, T, F)` features or `(B, T, 3, H, W)` uint8, and `(B,)`, to `(B, D)`."""
        flat = frames.flatten(0, 1)
        are_features = frames.dim() == 3
        if not are_features:
            flat = self._model.preprocessing.normalize(flat)
            flat = flat.contiguous(memory_format=torch.channels_last)

        def drop(features: torch.Tensor) -> torch.Tensor:
            if not (self.training and self._feature_dropout):
                return features
            kept = F.dropout(
                features.new_ones(len(frames), features.shape[-1]), self._feature_dropout
            )
            return features * kept.repeat_interleave(frames.shape[1], dim=0)

        embeddings = self.image(flat, are_features=are_features, drop=drop)
        return self.pooling(embeddings.unflatten(0, frames.shape[:2]), num_frames)

    def embed_texts(self, text: torch.Tensor) -> torch.Tensor:
        """`(B, F)` float features or `(B, L)` int64 tokens to `(B, D)`."""
        if text.is_floating_point():
            return self.text(text, are_features=True)
        return self.text(self._stripped(text), are_features=False)

    def _stripped(self, tokens: torch.Tensor) -> torch.Tensor:
        return strip_padding(tokens, self._model.clip)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        if self.logit_scale.requires_grad:
            self.logit_scale.clamp_(0, _MAX_LOG_SCALE)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Returns every tensor that training changes, by name."""
        return {
            name: parameter.detach()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def load_trained_state(self, state: dict[str, torch.Tensor]) -> None:
        """Loads a state of `trained_state`.

        Raises:
            ValueError: tensors of other names or shapes.
        """
        own = self.trained_state()
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        for name in sorted(own.keys() | shapes.keys()):
            here = tuple(own[name].shape) if name in own else "none"
            there = shapes.get(name, "none")
            if here != there:
                raise ValueError(f"{name} has shape {there} there and {here} in this model")
        for name, tensor in state.items():
            own[name].copy_(tensor)

    def as_model(self) -> DualEncoder:
        """Returns a copy as a model, on the CPU, with merged adapters."""
        clip: Any = merged(copy.deepcopy(self._model.clip).cpu().float())
        clip.requires_grad_(False)
        pooling = copy.deepcopy(self.pooling).cpu().requires_grad_(False)
        model = self._model
        return replace(
            model,
            clip=clip,
            pooling=pooling,
            fingerprint=model_fingerprint(clip, model.preprocessing, model.tokenize, pooling),
        )

    def _weights(self) -> list[nn.Parameter]:
        return [*self.image.parameters(), *self.text.parameters(), *self.pooling.parameters()]


def require_no_batch_norm(network: nn.Module, *, model_name: str) -> None:
    """Refuses to train from new weights what needs the batch statistics of its pretraining.

    Raises:
        ValueError: a module keeps running statistics, which training does not change.
    """
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise ValueError(
            f"trainable.from_scratch=true: model={model_name} has batch normalisation, whose "
            "statistics are kept as pretraining left them; choose a model without it, such as "
            "ViT-B-32"
        )
