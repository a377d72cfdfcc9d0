"""Compiles an image tower with OpenVINO for this machine's processor.

OpenVINO fuses layers: `mini` in bf16 encodes twice as many frames per second, closer to float32
(see the README), and in 8 bits faster still.
"""

from functools import partial
from queue import SimpleQueue
from typing import Any

import torch
from torch import nn

from reelseek.vision.models.calibration_frames import draw_frames
from reelseek.vision.models.openvino_models import (
    compile_model,
    import_openvino,
    openvino_core,
    read_or_convert,
)
from reelseek.vision.models.quantization import quantize_dense_layers

_CALIBRATION_FRAMES = 16


class OpenVinoTower:
    """A compiled module that maps `(T, 3, H, W)` uint8 to `(T, D)` float32.

    Threads may share it; more of them than there are streams wait for each other.

    Args:
        tower: The module to compile; normalises its input itself.
        example: `(T, 3, H, W)` uint8, to trace the tower with.
        dtype: Precision to compute in, float32 or bfloat16.
        int8: Compute dense layers in 8 bits.
        num_streams: Number of parallel calls, each on one core.
        cache_key: Identifies the tower's weights and preprocessing; empty to not use the cache.

    Raises:
        ImportError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot compile this tower.
    """

    def __init__(
        self,
        tower: nn.Module,
        example: torch.Tensor,
        *,
        dtype: torch.dtype,
        int8: bool = False,
        num_streams: int,
        cache_key: str = "",
    ) -> None:
        openvino = import_openvino()

        def finish(model: Any) -> Any:
            model.reshape([-1, *example.shape[1:]])
            if int8:
                height, width = example.shape[2:]
                frames = draw_frames(_CALIBRATION_FRAMES, (height, width))
                quantize_dense_layers(
                    model,
                    frames,
                    compile_model=partial(compile_model, precision="f32"),
                    has_vnni=has_vnni(),
                )
            return model

        if int8 and cache_key:
            cache_key += f" int8 {has_vnni()}"
        model = read_or_convert(openvino, openvino_core(), tower, example, cache_key, finish=finish)
        precision = "bf16" if dtype is torch.bfloat16 else "f32"
        self._compiled = compile_model(model, precision=precision, num_streams=num_streams)
        # Made here and tried once, since OpenVINO prepares a stream at its first use: doing so in
        # several threads at once, beside the threads that decode, has hung.
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(num_streams):
            self._requests.put(self._compiled.create_infer_request())
        for _ in range(num_streams):
            self(example)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        request = self._requests.get()
        try:
            outputs = request.infer({0: pixels.contiguous().numpy()}, share_inputs=True)
            return torch.from_numpy(outputs[0].copy())
        finally:
            self._requests.put(request)


def has_vnni() -> bool:
    """Whether this processor sums 8-bit products in 32 bits, with VNNI or AMX instructions."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
