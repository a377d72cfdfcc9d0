"""Loads an open_clip dual encoder by name.

A name is `mini`, an open_clip architecture with `pretrained` weights, `hf-hub:owner/name`, or a
folder in open_clip's format (see `vision.models.folder`).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reelseek.vision.models.dual_encoder import DualEncoder, model_fingerprint
from reelseek.vision.models.folder import read_extras
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.names import (
    MINI_FOLDERS,
    ModelUnavailableError,
    require_architecture,
    require_model_folder,
)
from reelseek.vision.models.preprocessing import Preprocessing
from reelseek.vision.models.quick_start import import_open_clip, without_first_weights
from reelseek.vision.models.sentence_tower import register_mpnet
from reelseek.vision.models.spec import ModelSpec


def load_model(
    spec: ModelSpec, *, known_names: Sequence[str] = (), new_weights_seed: int | None = None
) -> DualEncoder:
    """Loads both towers in float32.

    Args:
        spec: The model.
        known_names: More names (presets) to suggest when the name is unknown.
        new_weights_seed: Draws new weights, to train from scratch, and loads none.

    Raises:
        ModelUnavailableError: There is no such model (the message suggests near names), the
            folder is not a model, or the hub cannot be reached (the message says what to do).
    """
    open_clip = import_open_clip()
    register_mpnet()
    folder = None
    if spec.name in MINI_FOLDERS:
        folder = mini_folder(spec.name)
    elif Path(spec.name).is_dir():
        require_model_folder(spec.name)
        folder = Path(spec.name)
    elif new_weights_seed is not None:
        require_architecture(spec.name, open_clip.list_models(), known_names=known_names)
    elif not spec.name.startswith("hf-hub:"):
        spec = _with_weights(spec, known_names)
    open_clip_name = spec.name if folder is None else _local_name(folder)

    try:
        overrides = {} if folder is None else _overrides(folder)
        if new_weights_seed is None:
            # A folder's file has every weight, or is refused.
            with nullcontext() if folder is None else without_first_weights():
                clip = open_clip.create_model(
                    open_clip_name, pretrained=spec.pretrained, require_pretrained=True, **overrides
                ).eval()
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(new_weights_seed)
                clip = open_clip.create_model(
                    open_clip_name, load_weights=False, pretrained_text=False, **overrides
                ).eval()
        tokenizer = open_clip.get_tokenizer(open_clip_name)
        embedding_dim = _embedding_dim(clip, tokenizer)
        pooling, scripts = read_extras(folder, embedding_dim=embedding_dim)
    except Exception as error:  # safetensors, pickle and the hub each have their own
        raise ModelUnavailableError(_why_unavailable(spec, error)) from error

    preprocessing = Preprocessing.from_open_clip(clip.visual.preprocess_cfg)
    return DualEncoder(
        spec=replace(spec, scripts=spec.scripts or scripts),
        clip=clip,
        tokenize=tokenizer,
        context_length=int(getattr(tokenizer, "context_length", None) or clip.context_length),
        embedding_dim=embedding_dim,
        preprocessing=preprocessing,
        fingerprint=model_fingerprint(clip, preprocessing, tokenizer, pooling),
        pooling=pooling,
    )


def _local_name(folder: Path) -> str:
    return f"local-dir:{folder}"


def _overrides(folder: Path) -> dict:
    """Points a transformers text tower to its configuration beside the weights, since the folder
    may have moved."""
    import open_clip

    text_cfg = open_clip.get_model_config(_local_name(folder))["text_cfg"]
    if "hf_model_name" not in text_cfg or not (folder / "config.json").is_file():
        return {}
    return {"text_cfg": text_cfg | {"hf_model_name": str(folder), "hf_model_pretrained": False}}


def _with_weights(spec: ModelSpec, known_names: Sequence[str]) -> ModelSpec:
    """Fills in the weights of an architecture that has only one set.

    Raises:
        ModelUnavailableError: No such architecture, or no such weights.
    """
    import open_clip

    require_architecture(spec.name, open_clip.list_models(), known_names=known_names)
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    pretrained = spec.pretrained
    if pretrained is None and len(tags) == 1:
        return replace(spec, pretrained=tags[0])
    if pretrained is None or (pretrained not in tags and not Path(pretrained).is_file()):
        wrong = "no weights are chosen" if pretrained is None else f"no weights {pretrained!r}"
        some = ", ".join(tags[:5]) + (", ..." if len(tags) > 5 else "")
        raise ModelUnavailableError(
            f"model={spec.name}: {wrong}; set model.pretrained to a file, or to one of "
            f"open_clip's tags: {some or '(none)'}"
        )
    return spec


def _why_unavailable(spec: ModelSpec, error: Exception) -> str:
    lines = str(error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    if spec.name in MINI_FOLDERS or Path(spec.name).is_dir():
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
