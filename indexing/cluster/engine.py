"""A model, the options of a run and a connection to Ray -> a cluster that is ready to work."""

import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reelseek.indexing.cluster.decoding import CHUNK_FRAMES, DecodeSettings, start_workers
from reelseek.indexing.cluster.dispatching import Dispatcher, Job
from reelseek.indexing.cluster.encoding import (
    MakeEncoder,
    RemoteEncoder,
    shared_precision,
    start_encoders,
)
from reelseek.indexing.shards.opening import AnyCatalogue, open_catalogue
from reelseek.indexing.store.manifest import Manifest
from reelseek.vision import (
    DECODERS,
    DualEncoder,
    FrameEncoder,
    FrameSettings,
    ModelSpec,
    WorkerLimits,
    load_model,
)

FRAMES_BYTES = 48 << 20  # of a core: decoded frames that wait for an encoder, or are there
_PRECISION = "precision"  # in the catalogue's metadata: of the rows that a cluster has made


@dataclass(frozen=True)
class Cluster:
    """What the nodes need to know, and their encoders.

    Attributes:
        decode: how videos are decoded.
        encoder: stands for the encoders.
        queued_chunks: of frames that wait in each task that decodes.
        precision: of all encoders.
        slow_options: of the `Dispatcher`: when a job is tried a second time.
    """

    decode: DecodeSettings
    encoder: RemoteEncoder
    queued_chunks: int
    precision: str
    slow_options: dict[str, Any] = field(default_factory=dict)

    def dispatcher(self, submit: Callable[[Job, frozenset[str]], Any]) -> Dispatcher:
        """Returns what gives jobs to this cluster."""
        return Dispatcher(submit, **self.slow_options)

    def keep_precision(self, catalogue: AnyCatalogue) -> None:
        """Notes the precision in an index, for its later runs."""
        if catalogue.index_metadata(_PRECISION) != self.precision:
            catalogue.set_index_metadata(_PRECISION, self.precision)


def kept_precision(folder: Path) -> str | None:
    """Returns the precision of an index's runs on clusters; None before the first."""
    if not Manifest.exists(folder):
        return None
    with closing(open_catalogue(folder)) as catalogue:
        return catalogue.index_metadata(_PRECISION)


def load_encoder(
    precision: str, *, spec: ModelSpec, device: str, known_names: list[str]
) -> FrameEncoder:
    """Loads a model on a node, and returns its encoder."""
    model = load_model(spec, known_names=known_names)
    return FrameEncoder(model, device=device, precision=precision, compiled=True, padded=True)


def start_cluster(
    model: DualEncoder,
    make_encoder: MakeEncoder,
    frames: FrameSettings,
    *,
    precision: str = "auto",
    decoders: tuple[str, ...] = DECODERS,
    limits: WorkerLimits | None = None,
    frames_bytes: int = FRAMES_BYTES,
    **decode_options: Any,
) -> Cluster:
    """Starts encoders on the nodes of the Ray that this process is connected to.

    Args:
        model: of the index.
        make_encoder: makes an encoder of that model on a node, in a given precision.
        frames: to take from each video.
        precision: of all encoders; `auto` for the one that suits all of them.
        decoders: in the order to try them.
        limits: of each process that decodes.
        frames_bytes: of decoded frames that each task which decodes may have under way.
        decode_options: further fields of `DecodeSettings`.

    Raises:
        ValueError: the nodes do not have this model, or have others than each other.
    """
    decode = DecodeSettings(
        run=secrets.token_hex(8),
        frames=frames,
        decoders=decoders,
        limits=WorkerLimits() if limits is None else limits,
        **decode_options,
    )
    start_workers(decode)  # while the encoders load
    precision = shared_precision(precision)
    actors = start_encoders(make_encoder, precision, fingerprint=model.fingerprint)
    height, width = model.preprocessing.size
    num_chunks = frames_bytes // (CHUNK_FRAMES * 3 * height * width)
    # As many in the queue as at the encoders: `encode_videos` has 2 n + 1 batches there.
    queued_chunks = max(1, num_chunks // 2)
    num_parallel = max(0, (num_chunks - queued_chunks - 1) // 2)
    pooling: Callable[[torch.Tensor], torch.Tensor] = model.pooling
    encoder = RemoteEncoder(
        model.embedding_dim, CHUNK_FRAMES, num_parallel, pooling, actors=tuple(actors)
    )
    return Cluster(decode, encoder, queued_chunks, precision)
