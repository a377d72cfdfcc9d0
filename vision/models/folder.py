"""Saves models in open_clip's folder format with our additions, and reads the additions.

`open_clip_config.json` and `open_clip_model.safetensors` are open_clip's own: other tools load them
as `local-dir:FOLDER`. `reelseek.json` adds the kind of pooling and the scripts of the text tower,
`pooling.safetensors` the weights of the pooling, if any.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from reelseek.vision.models.dual_encoder import DualEncoder
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.names import CONFIG_NAME, MINI_FOLDERS
from reelseek.vision.models.pooling import MeanPooling, Pooling, make_pooling

WEIGHTS_NAME = "open_clip_model.safetensors"
_EXTRAS_NAME = "reelseek.json"
_POOLING_NAME = "pooling.safetensors"


def read_extras(folder: Path | None, *, embedding_dim: int) -> tuple[Pooling, tuple[str, ...]]:
    """Reads the pooling, in evaluation mode, and the scripts that `save_model` wrote.

    Returns mean pooling and no scripts for any other model.

    Raises:
        ValueError: The description is damaged or unknown.
    """
    if folder is None or not (folder / _EXTRAS_NAME).is_file():
        return MeanPooling(), ()
    from safetensors.torch import load_file

    extras = json.loads((folder / _EXTRAS_NAME).read_text(encoding="utf-8"))
    pooling = make_pooling(extras["pooling"], embedding_dim=embedding_dim)
    if pooling.state_dict():
        pooling.load_state_dict(load_file(folder / _POOLING_NAME))
    return pooling.eval(), tuple(extras["scripts"])


def save_model(model: DualEncoder, folder: Path) -> None:
    """Writes the model into a folder, created if missing; keeps other files there.

    Deletes `open_clip_config.json`, without which a folder is not a model, first and writes it
    last, so that a killed process leaves the old model, the new model, or none.

    Raises:
        ValueError: The folder cannot be written.
    """
    from safetensors import SafetensorError

    try:
        _save(model, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{folder}: the model cannot be written ({reason}); run the same command again"
        ) from error


def _save(model: DualEncoder, folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    making = folder / f".model.{os.getpid()}.tmp"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        _write_description(model, making, final_folder=folder)
        save_file(_tensors(model.clip), making / WEIGHTS_NAME)
        if pooling_tensors := _tensors(model.pooling):
            save_file(pooling_tensors, making / _POOLING_NAME)
        extras = {"pooling": model.pooling.options(), "scripts": list(model.spec.scripts)}
        (making / _EXTRAS_NAME).write_text(json.dumps(extras, indent=2) + "\n")
        names = sorted(path.name for path in making.iterdir())
        for name in names:
            _sync(making / name)
        (folder / CONFIG_NAME).unlink(missing_ok=True)
        for name in sorted(names, key=lambda name: name == CONFIG_NAME):
            (making / name).replace(folder / name)
        _sync(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write_description(model: DualEncoder, folder: Path, *, final_folder: Path) -> None:
    """Writes the configuration of the towers and the files of the tokenizer."""
    source = _source_folder(model)
    if source is None:
        config = {
            "model_cfg": _model_cfg(model),
            "preprocess_cfg": {
                name: value
                for name, value in model.clip.visual.preprocess_cfg.items()
                if name not in ("size", "mode")
            },
        }
        _write_transformers_parts(model, folder)
    else:
        ours = {CONFIG_NAME, _EXTRAS_NAME, "metrics.json"}
        config = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
        for path in source.iterdir():
            if path.suffix in (".json", ".txt", ".model") and path.name not in ours:
                shutil.copyfile(path, folder / path.name)
        if _has_new_tokens(model, source):
            _write_transformers_parts(model, folder)
    _name_itself(config["model_cfg"]["text_cfg"], folder, final_folder=final_folder)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")


def _write_transformers_parts(model: DualEncoder, folder: Path) -> None:
    """Writes the configuration and the tokenizer of a text tower of transformers."""
    parts = (
        getattr(getattr(model.clip, "text", None), "config", None),
        getattr(model.tokenize, "tokenizer", None),
    )
    for part in parts:
        if part is not None and hasattr(part, "save_pretrained"):
            part.save_pretrained(folder)


def _has_new_tokens(model: DualEncoder, source: Path) -> bool:
    """Returns whether the text tower has other tokens than when it was loaded."""
    text_config = getattr(getattr(model.clip, "text", None), "config", None)
    if text_config is None or not (source / "config.json").is_file():
        return False
    loaded = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return loaded.get("vocab_size") != text_config.vocab_size


def _name_itself(text_cfg: dict[str, Any], folder: Path, *, final_folder: Path) -> None:
    """Points a text tower of transformers to this folder.

    open_clip looks for its configuration by name or absolute path, and the folder that training
    started from may be deleted.
    """
    itself = str(final_folder.resolve())
    if "hf_model_name" in text_cfg and (folder / "config.json").is_file():
        text_cfg |= {"hf_model_name": itself, "hf_model_pretrained": False}
    if "hf_tokenizer_name" in text_cfg and (folder / "tokenizer_config.json").is_file():
        text_cfg["hf_tokenizer_name"] = itself


def _source_folder(model: DualEncoder) -> Path | None:
    """Returns the folder that a model was loaded from; None if it was loaded by name."""
    if model.spec.name in MINI_FOLDERS:
        return mini_folder(model.spec.name)
    folder = Path(model.spec.name)
    return folder if folder.is_dir() else None


def _model_cfg(model: DualEncoder) -> dict[str, Any]:
    import open_clip
    from open_clip.transformer import QuickGELU

    config = open_clip.get_model_config(model.spec.name)
    if config is None:
        raise ValueError(
            f"model={model.spec.name}: the folder was deleted after the model was loaded, and with "
            "it the configuration of its towers; restore it and run the same command again"
        )
    if any(isinstance(module, QuickGELU) for module in model.clip.modules()):
        config["quick_gelu"] = True  # set by some weights, such as OpenAI's
    return config


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
