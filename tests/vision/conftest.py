"""A network that is not there, and a CLIP of a few weights."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

TINY_CFG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 32,
        "patch_size": 16,
        "head_width": 16,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
    },
}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cuts the network off; the list grows by each address that is asked for nevertheless."""
    asked: list[str] = []

    def refuse(*arguments: object, **options: object) -> None:
        asked.append(str(arguments))
        raise OSError("the network is cut off for this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def write_tiny_clip(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder in open_clip's format, its weights random but the same each time."""

    def write(name: str = "tiny", **preprocess_cfg: object) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            clip = open_clip.CLIP(**TINY_CFG)
        save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
        config = {"model_cfg": TINY_CFG, "preprocess_cfg": preprocess_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        return folder

    return write
