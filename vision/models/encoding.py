"""Encodes frames into frame embeddings, in the precision that suits the machine."""

import copy
import logging
import platform
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reelseek.vision.models.dual_encoder import DualEncoder
from reelseek.vision.models.self_check import SelfCheckedTower

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "int8", "bf16", "fp32")

# Frames per batch. On a CPU, a small batch stays in the caches: compiled, `mini` encodes 151
# frames/s in batches of 4 and 93 in batches of 32 (2 cores).
_BATCH_FRAMES = {"cpu": 4, "cuda": 256}


def choose_device(device: str) -> torch.device:
    """Returns a device by name; `auto` is CUDA if available, else the CPU.

    Raises:
        ValueError: This machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device} is not available here; use auto or cpu") from error
    return chosen


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """Returns a floating-point type by name; `auto` is bf16 if the device supports it natively,
    else fp32, and so is `int8`, for layers that are not quantised.

    A processor supports bf16 with AMX or AVX-512 BF16 instructions; emulated, it is slower than
    fp32.

    Raises:
        ValueError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision}: must be one of {', '.join(PRECISIONS)}")
    if precision in ("auto", "int8"):
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class FrameEncoder:
    """Encodes frames with the image tower of a model.

    Args:
        model: Supplies the tower and the preprocessing.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `fp32` (the reference), `bf16` (uses a bf16 copy of the weights; autocast would
            cast them for each batch, 14 times slower on a ViT-B/32), `int8` (the compiled tower's
            dense layers in 8 bits, if it passes a check on the first frames) or `auto` (int8 for
            a compiled tower that gains from it on an x86 processor, else as `choose_precision`).
        compiled: Compile the tower with OpenVINO if it is installed, on a CPU and unless the
            precision is fp32. Pays off for many frames: compiling takes seconds.
        quantized: Let `auto` choose int8. The first frames are encoded exactly, so that two runs
            need not give the same embeddings to the last digit.
        padded: Fill smaller batches up, so that all have one shape. A frame's embedding then does
            not depend on the frames beside it: rounding differs between shapes (6e-8 in fp32 on
            a CPU), not between the places in a batch.
        trunk: Replaces the tower by a part of it that maps `(T, 3, H, W)` normalised frames to
            `(T, F)` features. `encode` then returns these features, not normalised, in
            floating point.

    Raises:
        ValueError: The device or the precision is not available here.

    Attributes:
        fingerprint: Of the model.
        embedding_dim: D, or F with a trunk.
        batch_frames: Preferred number of frames per batch; halved when memory runs out.
        num_parallel: Number of batches encoded at once.
        engine: `torch` or `openvino`.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        device: str = "auto",
        precision: str = "auto",
        compiled: bool = False,
        quantized: bool = True,
        padded: bool = False,
        trunk: nn.Module | None = None,
    ) -> None:
        self.preprocessing = model.preprocessing
        self.fingerprint = model.fingerprint
        self._is_padded = padded
        self._pooling = model.pooling
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        if precision == "int8":
            _check_int8(self.device, compiled=compiled and trunk is None)
        is_cpu = self.device.type == "cpu"
        self.batch_frames = _BATCH_FRAMES.get(self.device.type, 32)
        # On a CPU, each core encodes its own batches. Cores that share a batch wait for each other
        # at every layer: equally fast on an idle machine, a tenth as fast beside other programs.
        self.num_parallel = torch.get_num_threads() if is_cpu else 1
        self._executor = ThreadPoolExecutor(
            self.num_parallel,
            thread_name_prefix="encode",
            initializer=_use_one_core if is_cpu else None,
        )
        self._start_threads()
        self.embedding_dim = model.embedding_dim
        if trunk is not None:
            height, width = self.preprocessing.size
            with torch.inference_mode():
                self.embedding_dim = _features(trunk, torch.zeros(1, 3, height, width)).shape[-1]
        self.engine = "torch"
        if is_cpu and compiled and precision != "fp32":
            is_automatic = precision == "auto" and quantized and trunk is None
            is_faster = _is_faster_in_int8(model.clip.visual, self.dtype)
            int8 = precision == "int8" or (is_automatic and is_faster)
            tower = self._compile(model, trunk, int8=int8)
            if tower is not None:
                self._tower: Callable[[torch.Tensor], torch.Tensor] = tower
                self.engine = "openvino"
                return
        self._tower = _EmbeddingTower(model, dtype=self.dtype, trunk=trunk).to(self.device)

    @property
    def precision(self) -> str:
        """Precision of most layers: `fp32`, `bf16` or `int8`."""
        if isinstance(self._tower, SelfCheckedTower) and not self._tower.is_rejected:
            return "int8"
        return "bf16" if self.dtype is torch.bfloat16 else "fp32"

    def _start_threads(self) -> None:
        """Starts all threads of the executor, before others run beside them: a thread that was
        started in the middle of the work has been seen to hang."""
        all_there = threading.Barrier(self.num_parallel)
        for future in [self._executor.submit(all_there.wait) for _ in range(self.num_parallel)]:
            future.result()

    def _compile(
        self, model: DualEncoder, trunk: nn.Module | None, *, int8: bool
    ) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Returns the compiled tower, or None if OpenVINO is missing or cannot compile it."""
        from reelseek.vision.models.openvino_tower import OpenVinoTower

        height, width = self.preprocessing.size
        compile_tower = partial(
            OpenVinoTower,
            _EmbeddingTower(model, dtype=torch.float32, trunk=trunk),
            torch.zeros((2, 3, height, width), dtype=torch.uint8),
            dtype=self.dtype,
            num_streams=self.num_parallel,
            cache_key=model.fingerprint + ("" if trunk is None else " trunk"),
        )
        try:
            tower = compile_tower()
            if int8:
                return SelfCheckedTower(compile_tower(int8=True), tower, name="int8")
            return tower
        except ImportError:
            return None
        except RuntimeError as error:
            logger.warning("OpenVINO cannot compile this model, PyTorch runs it: %s", error)
            return None

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encodes frames.

        Args:
            pixels: `(T, 3, height, width)` uint8, from `Preprocessing.resize`.

        Returns:
            `(T, D)` float32 on the CPU, L2-normalised.
        """
        futures = [self.submit(batch) for batch in pixels.split(self.batch_frames)]
        return torch.cat([future.result() for future in futures])

    @torch.inference_mode()
    def pool(self, frame_embeddings: torch.Tensor) -> torch.Tensor:
        """Pools frame embeddings `(T, D)` into a video embedding `(D,)`, L2-normalised."""
        return self._pooling(frame_embeddings.unsqueeze(0)).squeeze(0)

    def submit(self, pixels: torch.Tensor) -> "Future[torch.Tensor]":
        """Encodes at most `batch_frames` frames in another thread."""
        return self._executor.submit(self._encode_batch, pixels)

    @torch.inference_mode()
    def _encode_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encodes a batch; halves this and all later batches when memory runs out."""
        size = min(self.batch_frames, len(pixels))
        try:
            return torch.cat([self._encode_part(part) for part in pixels.split(size)])
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error) or size == 1:
                raise
        self.batch_frames = min(self.batch_frames, size // 2)  # another thread may have halved it
        logger.warning("out of memory: batches of %d frames from here on", self.batch_frames)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._encode_batch(pixels)

    def _encode_part(self, pixels: torch.Tensor) -> torch.Tensor:
        num_missing = self.batch_frames - len(pixels) if self._is_padded else 0
        if num_missing > 0:
            # Not black frames: the check of int8 would look at them, too.
            more = pixels[-1:].expand(num_missing, *pixels.shape[1:])
            return self._encode_part(torch.cat([pixels, more]))[: len(pixels)]
        return self._tower(pixels.to(self.device)).float().cpu()


def _computes_int8() -> bool:
    """Whether this processor is one that 8 bits are implemented for."""
    return platform.machine().lower() in ("x86_64", "amd64")


def _is_faster_in_int8(tower: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a tower gains from 8 bits here.

    Args:
        dtype: Of the layers that are not quantised. Beside bf16, a network with depthwise
            convolutions gains nothing (`mini`: 126 frames/s against 128, on AMX), a transformer a
            half (ViT-B/32: 77 against 50). Beside float32, both gain.
    """
    is_depthwise = any(
        isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in tower.modules()
    )
    return _computes_int8() and not (dtype is torch.bfloat16 and is_depthwise)


def _check_int8(device: torch.device, *, compiled: bool) -> None:
    """Raises where a tower cannot be quantised."""
    from importlib.util import find_spec

    if device.type != "cpu" or not compiled or not _computes_int8():
        raise ValueError("precision=int8: needs an x86 processor and a compiled tower; use auto")
    if find_spec("openvino") is None:
        raise ValueError("precision=int8: needs OpenVINO; pip install 'reelseek[openvino]'")


def _use_one_core() -> None:
    torch.set_num_threads(1)  # applies to the calling thread


class _EmbeddingTower(nn.Module):
    """Maps frames `(T, 3, H, W)` uint8 to embeddings `(T, D)`, or to a trunk's features."""

    def __init__(
        self, model: DualEncoder, *, dtype: torch.dtype, trunk: nn.Module | None = None
    ) -> None:
        super().__init__()
        tower: Any = model.clip.visual if trunk is None else trunk
        if dtype is not torch.float32:
            tower = copy.deepcopy(tower)
        # Convolution kernels compute in channels-last layout.
        self._tower = tower.to(dtype=dtype, memory_format=torch.channels_last)
        self._normalize = model.preprocessing.normalize
        self._dtype = dtype
        self._is_trunk = trunk is not None

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        frames = self._normalize(pixels).to(self._dtype)
        features = _features(self._tower, frames.contiguous(memory_format=torch.channels_last))
        return features.float() if self._is_trunk else F.normalize(features.float(), dim=-1)


def _features(tower: nn.Module, frames: torch.Tensor) -> torch.Tensor:
    features = tower(frames)
    # CoCa's tower also returns the features of its patches.
    return features[0] if isinstance(features, tuple) else features


def _is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch (on either device) or OpenVINO could not allocate."""
    known = ("can't allocate memory", "not enough memory", "bad_alloc", "could not create a memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        text in str(error) for text in known
    )
