"""Compiles an image tower with OpenVINO for this machine's processor.

OpenVINO fuses layers: `mini` in bf16 encodes twice as many frames per second, closer to float32
(see the README). The converted model is kept in the user's cache folder, so that only the first run
with a model spends seconds on the conversion.
"""

import functools
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import nn

from reelseek.vision.models.cache_folder import default_cache_folder

logger = logging.getLogger(__name__)


class OpenVinoTower:
    """A compiled module that maps `(T, 3, H, W)` uint8 to `(T, D)` float32.

    Threads may share it; more of them than there are streams wait for each other.

    Args:
        tower: The module to compile; normalises its input itself.
        example: `(T, 3, H, W)` uint8, to trace the tower with.
        dtype: Precision to compute in, float32 or bfloat16.
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
        num_streams: int,
        cache_key: str = "",
    ) -> None:
        openvino = _import_openvino()
        core = _core()
        model = _read_or_convert(openvino, core, tower, example, cache_key)
        model.reshape([-1, *example.shape[1:]])
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
                "NUM_STREAMS": num_streams,
                "INFERENCE_NUM_THREADS": num_streams,
                "ENABLE_CPU_PINNING": False,  # the decoders want the cores too
            },
        )
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
    versions = f"{cache_key} {openvino.__version__} {torch.__version__}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:32]
    folder = default_cache_folder() / "openvino" / name
    if folder.is_dir():
        try:
            return core.read_model(folder / "tower.xml")
        except RuntimeError:
            shutil.rmtree(folder, ignore_errors=True)
    model = finish(_convert(openvino, tower, example))
    try:
        _keep(openvino, model, folder)
    except (OSError, RuntimeError) as error:  # OpenVINO raises a RuntimeError if the disk is full
        logger.warning("%s: cannot keep the converted model (%s)", folder.parent, error)
    return model


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
        # float16 halves the size; bf16 has even fewer digits.
        openvino.save_model(model, making / "tower.xml", compress_to_fp16=True)
        making.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
