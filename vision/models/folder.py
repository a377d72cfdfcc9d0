"""A model <-> a folder that names it everywhere: open_clip's format, and what it has no place for.

`open_clip_config.json` and `open_clip_model.safetensors` are open_clip's own (other tools load them
as `local-dir:FOLDER`); `reelseek.json` adds how frames are pooled and which scripts the text tower
reads, `pooling.safetensors` the weights of the pooling where it has any.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from reelseek.vision.models.dual_encoder import DualEncoder
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.names import CONFIG_NAME
from reelseek.vision.models.pooling import MeanPooling, Pooling, make_pooling

WEIGHTS_NAME = "open_clip_model.safetensors"
_EXTRAS_NAME = "reelseek.json"
_POOLING_NAME = "pooling.safetensors"


def read_extras(folder: Path | None, *, embedding_dim: int) -> tuple[Pooling, tuple[str, ...]]:
    """The pooling, in evaluation mode, and the scripts, of a folder that `save_model` wrote; the
    mean and nothing of any other model.

    Raises:
        ValueError: a damaged or unknown description.
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
    """Writes the model into a folder, made if missing; other files there stay.

    `open_clip_config.json`, without which a folder is no model, goes first and comes last, so that
    a killed process leaves the old model, the new one, or none.

    Raises:
        ValueError: it cannot be written.
    """
    from safetensors import SafetensorError

    try:
        _save(model, folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{folder}: the model cannot be written ({reason}); the same command tries again"
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
    """The configuration of the towers, and the files of the tokenizer."""
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
        of_transformers = (
            getattr(getattr(model.clip, "text", None), "config", None),
            getattr(model.tokenize, "tokenizer", None),
        )
        for part in of_transformers:
            if part is not None and hasattr(part, "save_pretrained"):
                part.save_pretrained(folder)
    else:
        ours = {CONFIG_NAME, _EXTRAS_NAME, "metrics.json"}
        config = json.loads((source / CONFIG_NAME).read_text(encoding="utf-8"))
        for path in source.iterdir():
            if path.suffix in (".json", ".txt", ".model") and path.name not in ours:
                shutil.copyfile(path, folder / path.name)
    _name_itself(config["model_cfg"]["text_cfg"], folder, final_folder=final_folder)
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n")


def _name_itself(text_cfg: dict[str, Any], folder: Path, *, final_folder: Path) -> None:
    """Where the text tower is one of transformers, open_clip looks for its configuration under a
    name or an absolute path: here those of this folder, since the one that training started from
    may go."""
    itself = str(final_folder.resolve())
    if "hf_model_name" in text_cfg and (folder / "config.json").is_file():
        text_cfg |= {"hf_model_name": itself, "hf_model_pretrained": False}
    if "hf_tokenizer_name" in text_cfg and (folder / "tokenizer_config.json").is_file():
        text_cfg["hf_tokenizer_name"] = itself


def _source_folder(model: DualEncoder) -> Path | None:
    """The folder that a model was loaded from; of a model with a name, its files are elsewhere."""
    if model.spec.name == "mini":
        return mini_folder()
    folder = Path(model.spec.name)
    return folder if folder.is_dir() else None


def _model_cfg(model: DualEncoder) -> dict[str, Any]:
    import open_clip
    from open_clip.transformer import QuickGELU

    config = open_clip.get_model_config(model.spec.name)
    if config is None:
        raise ValueError(
            f"model={model.spec.name} is gone since it was loaded, and with it the description of "
            "its towers; put it back, and the same command goes on"
        )
    if any(isinstance(module, QuickGELU) for module in model.clip.modules()):
        config["quick_gelu"] = True  # which weights may ask for, as OpenAI's do
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
