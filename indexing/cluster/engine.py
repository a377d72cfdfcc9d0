"""A model, the options of a run and a connection to Ray -> a cluster that is ready to work."""

import logging
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reelseek.indexing.cluster.copies import NodeFetchers
from reelseek.indexing.cluster.decoding import CHUNK_FRAMES, DecodeSettings, start_workers
from reelseek.indexing.cluster.dispatching import Dispatcher, Submit
from reelseek.indexing.cluster.encoding import (
    MakeEncoder,
    RemoteEncoder,
    shared_precision,
    start_encoders,
)
from reelseek.indexing.cluster.fetching import FetchSettings
from reelseek.indexing.cluster.stragglers import UsualTimes
from reelseek.indexing.remote.fetching import RemoteOptions
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
_WAY = "encoded in"  # in the catalogue's metadata: how a cluster has encoded its rows
_REFERENCE = "fp32 torch"  # which all nodes can

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """What the nodes need to know, and their encoders.

    Attributes:
        decode: how videos are decoded.
        encoder: stands for the encoders.
        queued_chunks: of frames that wait in each task that decodes.
        way: in which all encoders encode, such as `bf16 openvino`.
        slow_options: of `UsualTimes`: when a job is tried a second time.
        fetch_folder: of each node, for copies of remote videos; None for its temporary folder.
    """

    decode: DecodeSettings
    encoder: RemoteEncoder
    queued_chunks: int
    way: str
    slow_options: dict[str, Any] = field(default_factory=dict)
    fetch_folder: Path | None = None

    def dispatcher(self, submit: Submit, *, spare: float = 0.25) -> Dispatcher:
        """Returns what gives jobs to this cluster; see `Dispatcher`."""
        return Dispatcher(submit, spare=spare, usual=UsualTimes(**self.slow_options))

    def fetchers(self, options: RemoteOptions) -> NodeFetchers:
        """Returns what fetches remote videos on the nodes."""
        return NodeFetchers(FetchSettings(self.decode.run, options, self.fetch_folder))

    def keep_precision(self, catalogue: AnyCatalogue) -> None:
        """Notes in an index how it is encoded, and warns where that was another way before."""
        known = catalogue.index_metadata(_WAY)
        if known is None:
            catalogue.set_index_metadata(_WAY, self.way)
        elif known != self.way:
            logger.warning("encodes in %s; earlier runs on a cluster: in %s", self.way, known)


def kept_precision(folder: Path) -> str:
    """Returns the precision that an index's earlier runs on clusters make necessary, or `auto`."""
    if not Manifest.exists(folder):
        return "auto"
    with closing(open_catalogue(folder)) as catalogue:
        return "fp32" if catalogue.index_metadata(_WAY) == _REFERENCE else "auto"


def load_encoder(
    precision: str, *, spec: ModelSpec, device: str, known_names: list[str]
) -> FrameEncoder:
    """Loads a model on a node, and returns its encoder."""
    model = load_model(spec, known_names=known_names)
    return FrameEncoder(
        model, device=device, precision=precision, compiled=True, quantized=False, padded=True
    )


def start_cluster(
    model: DualEncoder,
    make_encoder: MakeEncoder,
    frames: FrameSettings,
    *,
    precision: str = "auto",
    decoders: tuple[str, ...] = DECODERS,
    limits: WorkerLimits | None = None,
    frames_bytes: int = FRAMES_BYTES,
    fetch_folder: Path | None = None,
    **decode_options: Any,
) -> Cluster:
    """Starts encoders on the nodes of the Ray that this process is connected to.

    Args:
        model: of the index.
        make_encoder: makes an encoder of that model on a node, in a given precision.
        frames: to take from each video.
        precision: of all encoders; `auto` for what suits all of them, without 8 bits.
        decoders: in the order to try them.
        limits: of each process that decodes.
        frames_bytes: of decoded frames that each task which decodes may have under way.
        fetch_folder: see `Cluster`.
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
    actors, info = start_encoders(
        make_encoder, shared_precision(precision), fingerprint=model.fingerprint
    )
    height, width = model.preprocessing.size
    num_chunks = frames_bytes // (CHUNK_FRAMES * 3 * height * width)
    # As many in the queue as at the encoders: `encode_videos` has 2 n + 1 batches there.
    queued_chunks = max(1, num_chunks // 2)
    num_parallel = max(0, (num_chunks - queued_chunks - 1) // 2)
    pooling: Callable[[torch.Tensor], torch.Tensor] = model.pooling
    encoder = RemoteEncoder(
        model.embedding_dim, CHUNK_FRAMES, num_parallel, pooling, actors=tuple(actors)
    )
    return Cluster(decode, encoder, queued_chunks, info.way, fetch_folder=fetch_folder)
