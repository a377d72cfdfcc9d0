"""Encoders on the nodes of a cluster, and what stands for them where frames are decoded.

All encode in one precision and in batches of one shape, so that a video's rows do not depend on the
node that encodes it or on what is encoded beside it.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reelseek.indexing.cluster.frame_batches import FrameBatches
from reelseek.indexing.cluster.placement import encoder_nodes, live_nodes, on_node
from reelseek.vision import FrameEncoder, choose_device, choose_precision

# An encoder that dies more often than this is broken, and so is the run.
_MAX_RESTARTS = 20
_MAX_BATCH = 32  # frames, as many as come at once
_NUM_CALLS = 32  # at once of one encoder: more wait in the tasks that decode

MakeEncoder = Callable[[str], FrameEncoder]  # makes one of a precision


@dataclass(frozen=True)
class EncoderInfo:
    """An encoder of the cluster, as it describes itself; all must be alike."""

    fingerprint: str
    precision: str
    engine: str
    batch_frames: int

    @property
    def way(self) -> str:
        """What rows depend on to the last digit, such as `bf16 openvino`."""
        return f"{self.precision} {self.engine}"


class EncoderActor:
    """Encodes frames on one node.

    Args:
        make_encoder: makes the encoder.
        precision: of the whole run.
        num_threads: that encode a batch each.
    """

    def __init__(self, make_encoder: MakeEncoder, precision: str, *, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._encoder = make_encoder(precision)
        batch_frames = min(self._encoder.batch_frames, _MAX_BATCH)
        self._encoder.batch_frames = batch_frames
        self._batches = FrameBatches(self._encoder)

    def describe(self) -> EncoderInfo:
        encoder = self._encoder
        return EncoderInfo(
            encoder.fingerprint, encoder.precision, encoder.engine, encoder.batch_frames
        )

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encodes frames, `(T, 3, H, W)` uint8 to `(T, D)` float32; several calls at once."""
        return self._batches.encode(pixels)


@dataclass(frozen=True)
class RemoteEncoder:
    """Stands for the encoders of a cluster in a process that has none.

    Attributes:
        embedding_dim: D.
        batch_frames: frames that are sent at once.
        num_parallel: see `FrameEncoder`; bounds the frames under way.
        pooling: of the model, `(B, T, D)` to `(B, D)`.
        actors: of the cluster, each with the id of the node that it was started on.
    """

    embedding_dim: int
    batch_frames: int
    num_parallel: int
    pooling: Callable[[torch.Tensor], torch.Tensor]
    actors: tuple[tuple[str, Any], ...] = ()

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        """Sends frames to an encoder of this node, or of another where this has none."""
        import ray

        node_id = ray.get_runtime_context().get_node_id()
        own = [actor for home, actor in self.actors if home == node_id]
        actor = random.choice(own or [actor for _, actor in self.actors])
        answer: Future[torch.Tensor] = Future()

        def take(arrived: "Future[np.ndarray]") -> None:
            error = arrived.exception()
            if error is None:
                answer.set_result(torch.from_numpy(np.array(arrived.result())))
            else:
                answer.set_exception(error)

        actor.encode.remote(pixels.numpy()).future().add_done_callback(take)
        return answer

    @torch.inference_mode()
    def pool(self, frame_embeddings: torch.Tensor) -> torch.Tensor:
        return self.pooling(frame_embeddings.unsqueeze(0)).squeeze(0)


def shared_precision(precision: str) -> str:
    """Returns the precision to make all encoders of a run in: for `auto` itself where it means the
    same on all nodes that have one, else fp32.

    8 bits are never chosen: an encoder checks them on its first frames, which it encodes exactly,
    so that which rows are exact would depend on the order of the work.
    """
    if precision != "auto":
        return precision
    import ray

    task = ray.remote(_native_precision)
    nodes = {node.id: node for node in encoder_nodes(live_nodes())}
    asked = [
        task.options(
            num_cpus=0,
            num_gpus=1 if node.num_gpus else 0,
            scheduling_strategy=on_node(node.id),
        ).remote()
        for node in nodes.values()
    ]
    native = set(ray.get(asked))
    return precision if len(native) == 1 else "fp32"


def _native_precision() -> str:
    dtype = choose_precision("auto", choose_device("auto"))
    return "bf16" if dtype is torch.bfloat16 else "fp32"


def start_encoders(
    make_encoder: MakeEncoder, precision: str, *, fingerprint: str
) -> tuple[list[tuple[str, Any]], EncoderInfo]:
    """Starts the encoders of all nodes.

    Returns:
        Each with its node's id, and what they all are.

    Args:
        fingerprint: of the index's model.

    Raises:
        ValueError: nodes have another model, or other libraries than the others.
    """
    import ray

    actor_class = ray.remote(EncoderActor)
    shared = {
        "max_restarts": _MAX_RESTARTS,
        "max_task_retries": -1,
        "max_concurrency": _NUM_CALLS,
    }
    actors = []
    for node in encoder_nodes(live_nodes()):
        # Without GPUs, decoding and encoding share the cores of a node, as on one machine.
        own = {"num_gpus": 1, "num_cpus": 0} if node.num_gpus else {"num_cpus": 0}
        placed = actor_class.options(scheduling_strategy=on_node(node.id), **own, **shared)
        actor = placed.remote(make_encoder, precision, num_threads=max(1, node.num_cores))
        actors.append((node.id, actor))
    described = ray.get([actor.describe.remote() for _, actor in actors])
    _check_alike(described, fingerprint)
    return actors, described[0]


def _check_alike(described: Sequence[EncoderInfo], fingerprint: str) -> None:
    if not described:
        raise ValueError("engine=ray: the cluster has no cores to encode on")
    if any(each.fingerprint != fingerprint for each in described):
        raise ValueError("engine=ray: nodes have another model of this name than this machine")
    if len(set(described)) > 1:
        kinds = "; ".join(sorted({str(each) for each in described}))
        raise ValueError(f"engine=ray: the nodes would encode differently: {kinds}")
