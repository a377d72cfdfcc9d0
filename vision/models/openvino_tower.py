"""Compiles an image tower with OpenVINO for this machine's processor.

OpenVINO fuses layers: `mini` in bf16 encodes twice as many frames per second, closer to float32
(see the README), and in 8 bits faster still. The converted model is kept in the user's cache
folder, so that only the first run with a model spends seconds on the conversion.
"""

import functools
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import nn

from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.calibration_frames import draw_frames
from reelseek.vision.models.quantization import quantize_dense_layers

_CALIBRATION_FRAMES = 16

logger = logging.getLogger(__name__)


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
        openvino = _import_openvino()

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
        model = _read_or_convert(openvino, _core(), tower, example, cache_key, finish=finish)
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


def compile_model(
    model: Any, *, precision: str, num_streams: int = 1, num_threads: int | None = None
) -> Any:
    """Compiles an `openvino.Model`.

    Args:
        precision: Of layers that are not quantised, `f32` or `bf16`.
        num_streams: Number of parallel calls.
        num_threads: Of all calls together; default: one for each.
    """
    return _core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": num_streams,
            "INFERENCE_NUM_THREADS": num_streams if num_threads is None else num_threads,
            "ENABLE_CPU_PINNING": False,  # the decoders want the cores too
        },
    )


def has_vnni() -> bool:
    """Whether this processor sums 8-bit products in 32 bits, with VNNI or AMX instructions."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


@functools.cache
def _core() -> Any:
    """Returns this process's only core: creating and destroying several crashes their threads."""
    return _import_openvino().Core()


def _import_openvino() -> Any:
    """Imports OpenVINO without its telemetry, which would report each import to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read_or_convert(
    openvino: Any,
    core: Any,
    tower: nn.Module,
    example: torch.Tensor,
    cache_key: str,
    *,
    finish: Callable[[Any], Any] = lambda model: model,
) -> Any:
    """Returns OpenVINO's form of a tower, from the cache if it is there.

    Args:
        finish: Changes a converted model before it is kept.
    """
    if not cache_key:
        return finish(_convert(openvino, tower, example))
    folder = _folder_of(openvino, cache_key)
    if folder.is_dir():
        try:
            return core.read_model(folder / "tower.xml")
        except RuntimeError:
            shutil.rmtree(folder, ignore_errors=True)
    model = finish(_convert(openvino, tower, example))
    try:
        _keep(openvino, model, folder)
        return core.read_model(folder / "tower.xml")  # as later runs do: it is rounded
    except (OSError, RuntimeError) as error:  # OpenVINO raises a RuntimeError if the disk is full
        logger.warning("%s: cannot keep the converted model (%s)", folder.parent, error)
    return model


def _folder_of(openvino: Any, cache_key: str) -> Path:
    versions = f"{cache_key} {openvino.__version__} {torch.__version__}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:32]
    return default_cache_folder() / "openvino" / name


def _convert(openvino: Any, tower: nn.Module, example: torch.Tensor) -> Any:
    import warnings

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer warns about constants
        return openvino.convert_model(tower, example_input=example)


def _keep(openvino: Any, model: Any, folder: Path) -> None:
    """Writes the folder completely or not at all; another process may do the same."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        making.mkdir(parents=True)
        # float16 halves the size; bf16 has even fewer digits. But it would move the limits between
        # which activations are rounded, so that zero is no longer exact.
        is_quantized = any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
        openvino.save_model(model, making / "tower.xml", compress_to_fp16=not is_quantized)
        making.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
