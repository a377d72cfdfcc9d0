"""A trained sequential model as it is served: items and histories as vectors, inner products.

sequential.safetensors    weights of each network, and the embeddings of all items
sequential.json           the format, the ids of the items, and checksums
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reelseek.indexing.store.atomic import make_folder, write_atomically
from reelseek.recommendation.sequential.inference import Weights, encode_histories
from reelseek.text import strict_json

__all__ = ["SEQUENTIAL_NAME", "SequentialModel", "TrainedNetwork", "catalogue_fingerprint"]

_WEIGHTS_NAME, SEQUENTIAL_NAME = "sequential.safetensors", "sequential.json"
_FORMAT = 1


@dataclass(frozen=True)
class TrainedNetwork:
    """One network.

    Attributes:
        weights: by name, without the items.
        items: `(N, D)` float32, L2-normalised; zeros for items with neither history nor content.
        projection: `(D, C)` float32, which makes an embedding of content; None without content.
    """

    weights: Weights
    items: np.ndarray
    projection: np.ndarray | None = None

    @property
    def logit_scale(self) -> float:
        return float(np.exp(self.weights["log_scale"]))


@dataclass(frozen=True)
class SequentialModel:
    """Networks that differ in their seed; a score is the mean of their logits.

    That mean is one inner product of vectors that are as long as all networks' together, so FAISS
    finds the best of 10^6 items as it does for one network.

    Attributes:
        networks: at least one.
        num_heads: of their attention.
        item_ids: of the catalogue, by index.
        content_fingerprint: of the text tower that content comes from; "" without content.
        transitions_weight: how much item transitions count beside the logits, see `blend`.
    """

    networks: Sequence[TrainedNetwork]
    num_heads: int
    item_ids: Sequence[str]
    content_fingerprint: str = ""
    transitions_weight: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Of the catalogue and of what its content comes from."""
        return catalogue_fingerprint(self.item_ids, self.content_fingerprint)

    def item_vectors(self) -> np.ndarray:
        """Returns `(N, V)` float32, of which inner products with histories are scores."""
        return np.concatenate([each.items for each in self.networks], axis=1)

    def with_items(self, ids: Sequence[str], content: np.ndarray) -> "SequentialModel":
        """Returns a model that has further items, which nobody has chosen: their place is that of
        their content.

        Args:
            content: `(n, C)`, made like that of the training.

        Raises:
            ValueError: the model has learned from no content, or from content of another width.
        """
        networks = []
        for network in self.networks:
            if network.projection is None or network.projection.shape[1] != content.shape[1]:
                raise ValueError(
                    f"content is {content.shape}: the model has learned from "
                    + ("none" if network.projection is None else f"{network.projection.shape[1]}")
                )
            projected = content.astype(np.float32) @ network.projection.T
            projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
            networks.append(replace(network, items=np.concatenate([network.items, projected])))
        return replace(self, networks=networks, item_ids=[*self.item_ids, *ids])

    def history_vectors(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Returns `(B, V)` float32; zeros for an empty history."""
        return np.concatenate(
            [
                encode_histories(
                    network.weights, network.items, histories, num_heads=self.num_heads
                )
                * np.float32(network.logit_scale / len(self.networks))
                for network in self.networks
            ],
            axis=1,
        )

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Writes the model into a folder, made if missing; the description comes last.

        Returns:
            What was written.
        """
        from safetensors.numpy import save

        make_folder(folder)
        tensors = {
            f"{number}.{name}": np.asarray(tensor, np.float32, order="C")
            for number, network in enumerate(self.networks)
            for name, tensor in _tensors(network).items()
        }
        content = save(tensors)
        write_atomically(folder / _WEIGHTS_NAME, content)
        config = {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "content_fingerprint": self.content_fingerprint,
            "num_networks": len(self.networks),
            "num_heads": self.num_heads,
            "transitions_weight": self.transitions_weight,
            "crc32": zlib.crc32(content),
            "item_ids": list(self.item_ids),
        }
        write_atomically(folder / SEQUENTIAL_NAME, (json.dumps(config) + "\n").encode())
        return folder / _WEIGHTS_NAME, folder / SEQUENTIAL_NAME

    @classmethod
    def load(cls, folder: Path, *, fingerprint: str | None = None) -> "SequentialModel":
        """Reads what `save` wrote; runs nothing in it.

        Args:
            fingerprint: the `catalogue_fingerprint` that the model must have; None for any.

        Raises:
            ValueError: missing or damaged, of another format, or trained for another catalogue.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            config = strict_json.loads((folder / SEQUENTIAL_NAME).read_text(encoding="utf-8"))
            if not isinstance(config, dict) or config.get("format") != _FORMAT:
                raise ValueError(f"its description is not of format {_FORMAT}")
            content = (folder / _WEIGHTS_NAME).read_bytes()
            if zlib.crc32(content) != config["crc32"]:
                raise ValueError("the checksum of its weights is wrong")
            model = _from_values(config, load(content))
            if model.fingerprint != config["fingerprint"]:
                raise ValueError("the fingerprint of its catalogue is wrong")
        except (OSError, KeyError, TypeError, RecursionError, ValueError, SafetensorError) as error:
            reason = str(getattr(error, "strerror", None) or error)
            if isinstance(error, KeyError):
                reason = f"it lacks {error.args[0]}"
            raise ValueError(
                f"{folder}: holds no sequential model that can be read ({reason}); train it again"
            ) from error
        if fingerprint not in (None, model.fingerprint):
            raise ValueError(
                f"{folder}: was trained for another catalogue ({model.fingerprint}, not "
                f"{fingerprint}); train it again"
            )
        return model


def catalogue_fingerprint(item_ids: Sequence[str], content_fingerprint: str = "") -> str:
    """Returns 16 bytes of SHA-256, hex, over the ids in their order and the source of content."""
    digest = hashlib.sha256(json.dumps([content_fingerprint, *item_ids]).encode())
    return digest.hexdigest()[:32]


def _tensors(network: TrainedNetwork) -> dict[str, np.ndarray]:
    tensors = {f"network.{name}": each for name, each in network.weights.items()}
    tensors["items"] = network.items
    if network.projection is not None:
        tensors["projection"] = network.projection
    return tensors


def _from_values(config: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> SequentialModel:
    """Raises KeyError or ValueError where tensors are missing or do not fit the ids."""
    networks = []
    for number in range(config["num_networks"]):
        prefix = f"{number}.network."
        weights = {
            name.removeprefix(prefix): each
            for name, each in tensors.items()
            if name.startswith(prefix)
        }
        items = tensors[f"{number}.items"]
        if len(items) != len(config["item_ids"]):
            raise ValueError(f"it has {len(items)} items and {len(config['item_ids'])} ids")
        networks.append(TrainedNetwork(weights, items, tensors.get(f"{number}.projection")))
    return SequentialModel(
        networks,
        int(config["num_heads"]),
        config["item_ids"],
        config["content_fingerprint"],
        float(config["transitions_weight"]),
    )
