"""A model's name -> whether there is such a model, and the dimension of its embeddings; without
PyTorch, so that a misspelt name is said at once."""

import difflib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

CONFIG_NAME = "open_clip_config.json"
MINI_EMBEDDING_DIM = 512


class ModelUnavailableError(ValueError):
    """A model's weights could not be had: no such model, or a hub that cannot be reached."""


def check_model_name(name: str, *, known_names: Sequence[str] = ()) -> None:
    """Refuses what is no folder of a model, no name on the hub and no architecture of open_clip.

    Args:
        name: as of `ModelSpec`.
        known_names: further names to suggest (presets).

    Raises:
        ModelUnavailableError: near names are given.
    """
    if Path(name).is_dir():
        require_model_folder(name)
    elif name != "mini" and not name.startswith("hf-hub:"):
        require_architecture(name, list(_architecture_files()), known_names=known_names)


def require_model_folder(name: str) -> None:
    """Raises a ModelUnavailableError where a folder holds no description of a model."""
    if not (Path(name) / CONFIG_NAME).is_file():
        raise ModelUnavailableError(
            f"model={name}: the folder holds no {CONFIG_NAME}, so it is not a "
            "model; name a folder that open_clip or reelseek wrote"
        )


def require_architecture(
    name: str, architectures: Sequence[str], *, known_names: Sequence[str]
) -> None:
    """Raises a ModelUnavailableError, with near names, where a name is none of those."""
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
    """The dimension of a model's embeddings; None where only loading it tells."""
    if name == "mini":
        return MINI_EMBEDDING_DIM
    is_folder = Path(name).is_dir()
    path = Path(name) / CONFIG_NAME if is_folder else _architecture_files().get(name)
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return int((config["model_cfg"] if is_folder else config)["embed_dim"])
    except (OSError, ValueError, LookupError, TypeError):  # said by who loads it
        return None


def _architecture_files() -> dict[str, Path]:
    """open_clip's descriptions of its models, by name."""
    spec = importlib.util.find_spec("open_clip")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return {
        path.stem: path
        for folder in folders
        for path in sorted(Path(folder, "model_configs").glob("*.json"))
    }
