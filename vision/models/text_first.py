"""A model's name -> the model with its text tower at once, and the rest when it is first used.

A search by words needs no image tower, and open_clip, torchvision and transformers take several
seconds to import. The text tower of `mini`, and of what was trained from it, is a `SentenceTower`.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from reelseek.vision.models.dual_encoder import DualEncoder, model_fingerprint
from reelseek.vision.models.folder import WEIGHTS_NAME, read_extras
from reelseek.vision.models.kept_text import FolderStamp
from reelseek.vision.models.loading import load_model
from reelseek.vision.models.mini import mini_folder
from reelseek.vision.models.names import MINI_FOLDERS
from reelseek.vision.models.preprocessing import Preprocessing
from reelseek.vision.models.sentence_tokenizer import SentenceTokenizer
from reelseek.vision.models.sentence_tower import SentenceTower, is_supported
from reelseek.vision.models.spec import ModelSpec


def load_text_first(
    spec: ModelSpec, *, fingerprint: str | None, known_names: Sequence[str] = ()
) -> DualEncoder:
    """Loads a model, of which only the text tower is there at first where that can be.

    Args:
        fingerprint: of the model that is expected; another is loaded whole, as is one whose text
            tower is of another kind. None where any will do.
        known_names: as of `load_model`, as are the errors raised.
    """
    folder = mini_folder(spec.name) if spec.name in MINI_FOLDERS else Path(spec.name)
    try:
        model = _load_text(spec, folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        model = None  # no such folder, or a damaged one: `load_model` says what is wrong with it
    if model is not None and fingerprint in (None, model.fingerprint):
        return model
    return load_model(spec, known_names=known_names)


def _load_text(spec: ModelSpec, folder: Path) -> DualEncoder | None:
    """Returns the model; None if `SentenceTower` does not compute its text tower."""
    described = _read_json(folder / "open_clip_config.json")
    model_cfg, preprocess_cfg = described["model_cfg"], described["preprocess_cfg"]
    text_cfg, network_cfg = model_cfg["text_cfg"], _read_json(folder / "config.json")
    if not is_supported(network_cfg, pooler=text_cfg["hf_pooler_type"]):
        return None

    from safetensors.torch import load_file

    source = FolderStamp.of(folder)  # before it is read, so that a later change shows
    weights = load_file(folder / WEIGHTS_NAME)
    tower = SentenceTower(network_cfg, weights).eval()
    tokenize = SentenceTokenizer(
        folder / "tokenizer.json",
        context_length=text_cfg["context_length"],
        padding=network_cfg["pad_token_id"],
    )
    size = model_cfg["vision_cfg"]["image_size"]
    preprocessing = Preprocessing.from_open_clip({"size": size, "fill_color": 0, **preprocess_cfg})
    pooling, scripts = read_extras(folder, embedding_dim=model_cfg["embed_dim"])
    whole = _Once(lambda: load_model(spec).clip)
    return DualEncoder(
        spec=replace(spec, scripts=spec.scripts or scripts),
        clip=_TextFirst(tower, whole, source=source),
        tokenize=tokenize,
        context_length=tokenize.context_length,
        embedding_dim=model_cfg["embed_dim"],
        preprocessing=preprocessing,
        fingerprint=model_fingerprint(_WholeState(weights), preprocessing, tokenize, pooling),
        pooling=pooling,
    )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


class _Once:
    """Makes something when it is first asked for; threads may share it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._lock, self._made = make, threading.Lock(), None

    def __call__(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


class _TextFirst:
    """Stands in for an open_clip model; whatever but its text embeddings is taken from the whole
    one, which is loaded then.

    Attributes:
        source: The folder it was loaded from.
    """

    def __init__(self, tower: SentenceTower, whole: _Once, *, source: FolderStamp) -> None:
        self.sentence_tower, self._device, self.source = tower, torch.device("cpu"), source
        self._whole = _Once(lambda: whole().to(self._device))
        # Its configuration is asked for with each sentence.
        self.text = _TextTower(self._whole, SimpleNamespace(pad_token_id=tower.padding))

    def to(self, device: torch.device | str) -> "_TextFirst":
        self._device = torch.device(device)
        self.sentence_tower.to(self._device)
        return self

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.sentence_tower(tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole(), name)


class _TextTower:
    """The same of the model's text tower."""

    def __init__(self, whole: _Once, config: SimpleNamespace) -> None:
        self._whole, self.config = whole, config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole().text, name)


class _WholeState(nn.Module):
    """Tensors as the state of a module, of which a fingerprint is taken."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._weights = weights

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        return self._weights
