"""The model that an index was built with, loaded for encoding queries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reelseek.configs.schema import ModelConfig
    from reelseek.indexing import IndexSettings
    from reelseek.ranking.query_encoding import QueryEncoder
    from reelseek.vision import DualEncoder, ModelSpec
    from reelseek.vision.models.kept_text import KeptText


def load_query_encoder(
    index: str | Path, model: dict[str, Any] | None = None, *, device: str = "auto"
) -> QueryEncoder:
    """Loads the model that an index was built with, for a process that only encodes.

    Args:
        model: to insist on, as fields of `configs.schema.ModelConfig`; None for the index's.

    Raises:
        ValueError: as `Searcher.open`.
    """
    from reelseek.configs.schema import ModelConfig, check_device
    from reelseek.indexing.store.manifest import Manifest
    from reelseek.ranking.query_encoding import QueryEncoder

    check_device(device)
    settings = Manifest.read(Path(index)).settings
    config = None if model is None else ModelConfig(**model)
    return QueryEncoder(load_index_model(Path(index), settings, config), device=device)


def load_future_encoder(model: ModelConfig, *, device: str = "auto") -> QueryEncoder:
    """Loads the model that an index will be built with.

    Raises:
        ValueError: there is no such model.
    """
    from reelseek.configs.command_line import preset_names
    from reelseek.ranking.query_encoding import QueryEncoder
    from reelseek.vision.models.text_first import load_text_first

    known_names = preset_names("model")
    loaded = load_text_first(model.spec(), fingerprint=None, known_names=known_names)
    return QueryEncoder(loaded, device=device)


def load_index_model(
    folder: Path, settings: IndexSettings, model_config: ModelConfig | None
) -> DualEncoder:
    """Loads the index's model, or one that is insisted on if it is the same."""
    from reelseek.configs.command_line import preset_names
    from reelseek.vision.models.text_first import load_text_first

    spec = _spec(settings, model_config)
    model = load_text_first(
        spec, fingerprint=settings.fingerprint, known_names=preset_names("model")
    )
    check_fingerprint(folder, settings, model.fingerprint, name=f"model={spec.name}")
    return model


def open_index_model(
    folder: Path, settings: IndexSettings, model_config: ModelConfig | None, *, device: str
) -> DualEncoder | KeptText:
    """As `load_index_model`, and only the text tower where an earlier run has kept that."""
    from reelseek.vision.models.kept_text import has_no_gpu, open_kept_text

    load = partial(load_index_model, folder, settings, model_config)
    if device == "cpu" or (device == "auto" and has_no_gpu()):
        kept = open_kept_text(
            _spec(settings, model_config), fingerprint=settings.fingerprint, load=load
        )
        if kept is not None:
            return kept
    return load()


def _spec(settings: IndexSettings, model_config: ModelConfig | None) -> ModelSpec:
    from reelseek.configs.schema import ModelConfig

    return (model_config or ModelConfig(**settings.model)).spec()


def check_fingerprint(
    folder: Path, settings: IndexSettings, fingerprint: str, *, name: str
) -> None:
    """Raises an IndexMismatchError unless a model is the index's.

    Args:
        name: of the model, in the message.
    """
    from reelseek.indexing.store.manifest import IndexMismatchError

    if fingerprint != settings.fingerprint:
        raise IndexMismatchError(
            f"index={folder}: was built with model={settings.model['name']} (fingerprint "
            f"{settings.fingerprint[:8]}), and {name} is another ({fingerprint[:8]}); search with "
            "the model it was built with, or index into a new folder"
        )
