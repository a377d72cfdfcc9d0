"""A model's name -> an open_clip dual encoder, and the fingerprint an index remembers it by.

A name is `mini`, an open_clip architecture with `pretrained` weights, `hf-hub:owner/name`, or a
folder in open_clip's format (`open_clip_config.json` and weights as safetensors), to which training
adds how frames are pooled (see `vision.models.folder`).
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from reelseek.vision.models.folder import read_extras
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.names import (
    ModelUnavailableError,
    require_architecture,
    require_model_folder,
)
from reelseek.vision.models.pooling import MeanPooling, Pooling
from reelseek.vision.models.preprocessing import Preprocessing

logger = logging.getLogger(__name__)

# Part of the fingerprint: two tokenizers that agree on it are taken to be the same.
_TOKENIZER_PROBE = (
    "A dog's 2 red kites, cafe\u0301 \u732b \u041a\u043e\u0442 \u0642\u0637 \U0001f408!"
)


@dataclass(frozen=True)
class ModelSpec:
    """What names a model, so that it can be loaded again.

    Attributes:
        name: `mini`, an open_clip architecture, `hf-hub:owner/name`, or a folder.
        pretrained: an open_clip weights tag or a file of weights; None where the name says all.
        scripts: Unicode scripts the text tower was trained on, such as `Latin`; empty if unknown.
    """

    name: str
    pretrained: str | None = None
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class DualEncoder:
    """A loaded model.

    Attributes:
        clip: the open_clip model, in float32 on the CPU, in evaluation mode.
        tokenize: `(list of B sentences, context_length=n) -> (B, n)` int64 tokens.
        context_length: tokens a sentence may have, those of its borders included.
        embedding_dim: D.
        pooling: frame embeddings to a video embedding, in evaluation mode.
        fingerprint: hex digest of the weights, the preprocessing and the tokenizer.
    """

    spec: ModelSpec
    clip: Any  # a CLIP or CustomTextCLIP; to mypy, a module's submodules might be tensors
    tokenize: Callable[..., torch.Tensor]
    context_length: int
    embedding_dim: int
    preprocessing: Preprocessing
    fingerprint: str = ""
    pooling: Pooling = field(default_factory=MeanPooling)


def load_model(spec: ModelSpec, *, known_names: Sequence[str] = ()) -> DualEncoder:
    """Loads both towers in float32.

    Args:
        spec: which model.
        known_names: further names to suggest where this one is unknown (presets).

    Raises:
        ModelUnavailableError: no such model (near names are given), a folder that is not one, or
            a hub that cannot be reached (with the remedy).
    """
    import open_clip

    folder = None
    if spec.name == "mini":
        folder = mini_folder()
    elif _is_folder(spec.name):
        folder = Path(spec.name)
        require_model_folder(spec.name)
    else:
        spec = _with_only_weights(spec)
        _check_architecture(spec, known_names)
    open_clip_name = spec.name if folder is None else _local_name(folder)

    try:
        overrides = {} if folder is None else _overrides(folder)
        clip = open_clip.create_model(
            open_clip_name, pretrained=spec.pretrained, require_pretrained=True, **overrides
        ).eval()
        tokenizer = open_clip.get_tokenizer(open_clip_name)
        embedding_dim = _embedding_dim(clip, tokenizer)
        pooling, scripts = read_extras(folder, embedding_dim=embedding_dim)
    except Exception as error:  # safetensors, pickle and the hub each have their own
        raise ModelUnavailableError(_why_unavailable(spec, error)) from error

    preprocessing = Preprocessing.from_open_clip(clip.visual.preprocess_cfg)
    context_length = int(getattr(tokenizer, "context_length", None) or clip.context_length)
    return DualEncoder(
        spec=replace(spec, scripts=spec.scripts or scripts),
        clip=clip,
        tokenize=tokenizer,
        context_length=context_length,
        embedding_dim=embedding_dim,
        preprocessing=preprocessing,
        fingerprint=model_fingerprint(clip, preprocessing, tokenizer, pooling),
        pooling=pooling,
    )


def _local_name(folder: Path) -> str:
    return f"local-dir:{folder}"


def _overrides(folder: Path) -> dict:
    """Where the text tower is one of transformers, its configuration lies beside the weights,
    wherever the folder was moved."""
    import open_clip

    text_cfg = open_clip.get_model_config(_local_name(folder))["text_cfg"]
    if "hf_model_name" not in text_cfg or not (folder / "config.json").is_file():
        return {}
    return {"text_cfg": text_cfg | {"hf_model_name": str(folder), "hf_model_pretrained": False}}


def _is_folder(name: str) -> bool:
    """Whether the name can only be meant as a folder."""
    return Path(name).is_dir()


def _with_only_weights(spec: ModelSpec) -> ModelSpec:
    """Where an architecture has one published set of weights, it need not be named."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    return replace(spec, pretrained=tags[0]) if spec.pretrained is None and len(tags) == 1 else spec


def _check_architecture(spec: ModelSpec, known_names: Sequence[str]) -> None:
    import open_clip

    if spec.name.startswith("hf-hub:"):
        return
    require_architecture(spec.name, open_clip.list_models(), known_names=known_names)
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    pretrained = spec.pretrained
    if pretrained is None or (pretrained not in tags and not Path(pretrained).is_file()):
        wrong = "which weights is not said" if pretrained is None else f"no weights {pretrained!r}"
        some = ", ".join(tags[:5]) + (", ..." if len(tags) > 5 else "")
        raise ModelUnavailableError(
            f"model={spec.name}: {wrong}; set model.pretrained to a file, or to one of "
            f"open_clip's tags: {some or '(none)'}"
        )


def _why_unavailable(spec: ModelSpec, error: Exception) -> str:
    lines = str(error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    if _is_folder(spec.name) or spec.name == "mini":
        return f"model={spec.name} cannot be loaded from its folder: {reason}"
    if spec.pretrained is not None and Path(spec.pretrained).is_file():
        return f"model={spec.name} cannot be loaded with weights {spec.pretrained}: {reason}"
    return (
        f"model={spec.name} (weights {spec.pretrained or 'of the hub'}) cannot be fetched: the "
        "model hub is out of reach or lacks it; connect to the network for the first use, or set "
        "model=mini, which needs no hub, or model=FOLDER, a copy in open_clip's format"
    )


@torch.inference_mode()
def _embedding_dim(clip: Any, tokenizer: Callable[..., torch.Tensor]) -> int:
    return clip.encode_text(tokenizer(["a"])).shape[-1]


def model_fingerprint(
    clip: torch.nn.Module,
    preprocessing: Preprocessing,
    tokenizer: Callable[..., torch.Tensor],
    pooling: Pooling,
) -> str:
    """Sixteen bytes of SHA-256, hex, over every tensor with its name and shape, and the rest."""
    digest = hashlib.sha256()
    if not isinstance(pooling, MeanPooling):
        digest.update(json.dumps(pooling.options(), sort_keys=True).encode())
    for module in (clip, pooling):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    digest.update(json.dumps(preprocessing.as_dict(), sort_keys=True).encode())
    digest.update(str(tokenizer([_TOKENIZER_PROBE]).tolist()).encode())
    return digest.hexdigest()[:32]
