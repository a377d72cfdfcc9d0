"""Checks model names and their embedding dimension.

Does not load PyTorch, so that misspelt names are reported at once.
"""

import difflib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.mini_packages import require_weights

CONFIG_NAME = "open_clip_config.json"
# The models that `vision.models.mini` assembles, and their folders in the cache. Change the folder
# with every change of the weights: indexes are made for one version.
MINI_FOLDERS = {"mini": "mini-v2", "mini_fast": "mini-v1"}
MINI_EMBEDDING_DIM = 512
# `mini_fast` was named `mini` up to version 0.2; indexes of that time say so, and this fingerprint.
_FIRST_MINI = ("mini", "c17a33e69adcd48f0a3c0425ed589733")


class ModelUnavailableError(ValueError):
    """A model cannot be loaded: it does not exist, is damaged, or its hub is out of reach."""


def current_name(name: str | None, *, fingerprint: str) -> str | None:
    """Returns today's name of the model that an index names."""
    return "mini_fast" if (name, fingerprint) == _FIRST_MINI else name


def check_model_name(name: str, *, known_names: Sequence[str] = ()) -> None:
    """Checks that a name is a model folder, a hub name or an open_clip architecture.

    Args:
        name: As in `ModelSpec`.
        known_names: More names (presets) to suggest.

    Raises:
        ModelUnavailableError: It is none of them; the message suggests near names. Or it is made of
            packages that are not installed.
    """
    if Path(name).is_dir():
        require_model_folder(name)
    elif name in MINI_FOLDERS:
        if not (default_cache_folder() / MINI_FOLDERS[name]).is_dir():
            require_weights(name)
    elif not name.startswith("hf-hub:"):
        require_architecture(name, list(_architecture_files()), known_names=known_names)


def require_model_folder(name: str) -> None:
    """Raises a ModelUnavailableError if a folder has no model configuration."""
    if not (Path(name) / CONFIG_NAME).is_file():
        raise ModelUnavailableError(
            f"model={name}: the folder holds no {CONFIG_NAME}, so it is not a "
            "model; name a folder that open_clip or reelseek wrote"
        )


def require_architecture(
    name: str, architectures: Sequence[str], *, known_names: Sequence[str]
) -> None:
    """Raises a ModelUnavailableError with near names if a name is not among the architectures."""
    if name in architectures:
        return
    names = [*known_names, *architectures]
    lowered = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)
    hint = ", ".join(lowered[name] for name in near) or ", ".join(known_names) or "mini"
    raise ModelUnavailableError(
        f"model={name} is unknown and no such folder exists; near names: {hint}"
    )


def embedding_dim_of(name: str) -> int | None:
    """Returns the dimension of a model's embeddings; None if only loading it shows."""
    if name in MINI_FOLDERS:
        return MINI_EMBEDDING_DIM
    is_folder = Path(name).is_dir()
    path = Path(name) / CONFIG_NAME if is_folder else _architecture_files().get(name)
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return int((config["model_cfg"] if is_folder else config)["embed_dim"])
    except (OSError, ValueError, LookupError, TypeError):  # loading the model reports it
        return None


def _architecture_files() -> dict[str, Path]:
    """Returns open_clip's configuration files by architecture."""
    spec = importlib.util.find_spec("open_clip")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return {
        path.stem: path
        for folder in folders
        for path in sorted(Path(folder, "model_configs").glob("*.json"))
    }
