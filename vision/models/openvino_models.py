"""OpenVINO itself, and the folder of models that it has converted.

What was converted is kept in the user's cache folder, so that only the first run with a model
spends seconds on it.
"""

import functools
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.vision.models.cache_folder import default_cache_folder

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


@functools.cache
def openvino_core() -> Any:
    """Returns this process's only core: creating and destroying several crashes their threads."""
    return import_openvino().Core()


def import_openvino() -> Any:
    """Imports OpenVINO without its telemetry, which would report each import to a server."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def compile_model(
    model: Any, *, precision: str, num_streams: int = 1, num_threads: int | None = None
) -> Any:
    """Compiles an `openvino.Model`.

    Args:
        precision: Of layers that are not quantised, `f32` or `bf16`.
        num_streams: Number of parallel calls.
        num_threads: Of all calls together; default: one for each.
    """
    return openvino_core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "NUM_STREAMS": num_streams,
            "INFERENCE_NUM_THREADS": num_streams if num_threads is None else num_threads,
            "ENABLE_CPU_PINNING": False,  # the decoders want the cores too
        },
    )


def read_or_convert(
    openvino: Any,
    core: Any,
    tower: "nn.Module",
    example: "torch.Tensor",
    cache_key: str,
    *,
    finish: Callable[[Any], Any] = lambda model: model,
) -> Any:
    """Returns OpenVINO's form of a tower, from the cache if it is there.

    Args:
        finish: Changes a converted model before it is kept.
    """
    if not cache_key:
        return finish(convert(openvino, tower, example))
    folder = folder_of(openvino, cache_key)
    if folder.is_dir():
        try:
            return core.read_model(folder / "tower.xml")
        except RuntimeError:
            shutil.rmtree(folder, ignore_errors=True)
    model = finish(convert(openvino, tower, example))
    try:
        _keep(openvino, model, folder)
        return core.read_model(folder / "tower.xml")  # as later runs do: it is rounded
    except (OSError, RuntimeError) as error:  # OpenVINO raises a RuntimeError if the disk is full
        logger.warning("%s: cannot keep the converted model (%s)", folder.parent, error)
    return model


def folder_of(openvino: Any, cache_key: str) -> Path:
    versions = f"{cache_key} {openvino.__version__} {version('torch')}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:32]
    return default_cache_folder() / "openvino" / name


def convert(openvino: Any, tower: "nn.Module", example: "torch.Tensor") -> Any:
    import warnings

    import torch

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
