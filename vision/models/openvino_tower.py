"""An image tower -> the same compiled by OpenVINO for this machine's processor.

OpenVINO fuses what PyTorch computes layer by layer: twice the frames a second for `mini` in bf16,
and nearer to float32 (see the README). What it is made from is kept in the user's cache folder, so
that only the first run with a model takes the seconds of conversion.
"""

import functools
import hashlib
import logging
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reelseek.vision.models.cache_folder import default_cache_folder

logger = logging.getLogger(__name__)


class OpenVinoTower:
    """A module `(T, 3, H, W)` uint8 -> `(T, D)` float32, compiled. May be called by several
    threads, each of which is one of its streams.

    Args:
        tower: to be compiled; it does its own normalising.
        example: `(T, 3, H, W)` uint8, to trace the tower with.
        dtype: float32 or bfloat16, to compute in.
        num_streams: calls at once, each on a core.
        cache_key: names the tower's weights and preprocessing; empty to keep nothing.

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
        self._of_thread = threading.local()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        request = self._of_thread.request
        outputs = request.infer({0: pixels.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(outputs[0].copy())


@functools.cache
def _core() -> Any:
    """The one core of this process: where several come and go, their threads end in a crash."""
    return _import_openvino().Core()


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report each import to a server unasked."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _read_or_convert(
    openvino: Any, core: Any, tower: nn.Module, example: torch.Tensor, cache_key: str
) -> Any:
    if not cache_key:
        return _convert(openvino, tower, example)
    versions = f"{cache_key} {openvino.__version__} {torch.__version__}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:32]
    folder = default_cache_folder() / "openvino" / name
    if folder.is_dir():
        try:
            return core.read_model(folder / "tower.xml")
        except RuntimeError:
            shutil.rmtree(folder, ignore_errors=True)
    model = _convert(openvino, tower, example)
    try:
        _keep(openvino, model, folder)
    except (OSError, RuntimeError) as error:  # the second is OpenVINO's, of a full disk
        logger.warning("%s: cannot keep the converted model (%s)", folder.parent, error)
    return model


def _convert(openvino: Any, tower: nn.Module, example: torch.Tensor) -> Any:
    import warnings

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer's, of constants
        return openvino.convert_model(tower, example_input=example)


def _keep(openvino: Any, model: Any, folder: Path) -> None:
    """Writes the folder whole or not at all; another process may do the same."""
    making = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        making.mkdir(parents=True)
        # In float16 the weights take half the room; a bf16 has fewer digits yet.
        openvino.save_model(model, making / "tower.xml", compress_to_fp16=True)
        making.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
