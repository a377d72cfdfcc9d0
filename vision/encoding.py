"""Frames at the model's size -> frame embeddings, in the precision that suits the machine."""

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.nn import functional as F

from vision.model import DualEncoder

PRECISIONS = ("auto", "fp32", "bf16")

# Frames encoded together. On a CPU a small batch stays in the caches and in memory that the
# allocator has at hand: `mini` in bf16 does 125 frames/s by eights, 45 by sixty-fours (2 cores).
_BATCH_FRAMES = {"cpu": 8, "cuda": 256}


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device} is not to be had here; use auto or cpu") from error
    return chosen


def choose_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto` is bf16 where the device computes in it natively, else fp32.

    On a processor that means AMX or AVX-512 BF16 instructions; elsewhere bf16 is emulated and
    slower than fp32.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision}: must be one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


class FrameEncoder:
    """The image tower of a model, ready on a device.

    Args:
        model: supplies the tower and the preprocessing.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto`, `fp32` (the reference) or `bf16` (a copy of the tower's weights in bf16;
            autocast would cast them anew for each batch, and is 14 times slower on a ViT-B/32).
    """

    def __init__(
        self, model: DualEncoder, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.preprocessing = model.preprocessing
        self.embedding_dim = model.embedding_dim
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        tower = model.clip.visual
        if self.dtype is not torch.float32:
            tower = copy.deepcopy(tower)
        # Channels-last is the layout that the convolution kernels compute in.
        self._tower = tower.to(self.device, self.dtype, memory_format=torch.channels_last)

        # On a CPU each core takes batches of its own. Cores that share a batch wait for each other
        # at every layer: as fast on an idle machine, and a tenth of it where anything else runs.
        self._workers = (
            ThreadPoolExecutor(
                torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)
            )
            if self.device.type == "cpu"
            else None
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeds frames.

        Args:
            pixels: `(T, 3, height, width)` uint8, as `Preprocessing.resize` returns them.

        Returns:
            `(T, D)` float32 on the CPU, L2-normalised.
        """
        batches = pixels.split(_BATCH_FRAMES.get(self.device.type, 32))
        run = map if self._workers is None else self._workers.map
        return torch.cat(list(run(self._encode_batch, batches)))

    @torch.inference_mode()
    def _encode_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        frames = self.preprocessing.normalize(pixels.to(self.device))
        frames = frames.to(self.dtype, memory_format=torch.channels_last)
        features = self._tower(frames)
        if isinstance(features, tuple):  # CoCa's tower gives its patches' features besides
            features = features[0]
        return F.normalize(features.float(), dim=-1).cpu()
