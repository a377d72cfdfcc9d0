"""Compiles a text tower with OpenVINO: the path of queries on a CPU.

A query is a batch of one short sentence, for which reading the weights of a large tower takes
longer than computing with them. Where the processor computes in bfloat16, the weights of such a
tower are therefore stored in 8 bits. Sentences are padded to the longest of their batch. The
converted model is kept in the user's cache folder beside the image towers (`openvino_models`).
"""

import logging
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from reelseek.vision.models.dual_encoder import DualEncoder
from reelseek.vision.models.openvino_models import (
    compile_model,
    folder_of,
    import_openvino,
    openvino_core,
    read_or_convert,
)
from reelseek.vision.models.openvino_text_tower import OpenVinoTextTower
from reelseek.vision.models.sentence_tower import SentenceTower
from reelseek.vision.models.traceable_text import TransformerTower, traceable_text_tower

logger = logging.getLogger(__name__)

# A tower whose embeddings differ more from PyTorch's in float32 is not used.
MIN_COSINE = 0.999
_PROBES = ("a dog", "two people dance on a stage while the crowd cheers, seen from far above")
_EXAMPLE_LENGTH = 11  # of the tokens a tower is traced with
_MIN_COMPRESSED = 10_000  # elements; smaller weights are not worth it
# Elements of a tower's layers from which reading them takes longest (docs/benchmarks.md): those of
# MPNet, 85 million, gain by 8 bits, those of ViT-B/32's text tower, 38 million, lose.
_MIN_LAYERS_IN_8_BITS = 60_000_000


def compile_text_tower(
    model: DualEncoder, *, precision: str | None = None
) -> OpenVinoTextTower | None:
    """Returns a model's text tower, compiled for this processor and PyTorch's number of threads.

    The first call with a model converts it, which takes seconds, and logs a warning. Returns None
    where OpenVINO is not installed or cannot compute this tower: PyTorch runs it then.

    Args:
        model: Supplies the tower and the tokenizer.
        precision: `f32`; `bf16`; or `u8`, which is `bf16` with the weights of linear layers in
            8 bits. None chooses what is fastest here.
    """
    try:
        openvino = import_openvino()
        return _compile(openvino, openvino_core(), model, precision=precision)
    except ImportError:
        return None
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.info("OpenVINO cannot compile this text tower, PyTorch runs it: %s", reason)
        return None


def _compile(
    openvino: Any, core: Any, model: DualEncoder, *, precision: str | None
) -> OpenVinoTextTower | None:
    tower = traceable_text_tower(model.clip)
    if tower is None:
        return None
    if precision is None:
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        precision = fastest_precision(tower, has_bf16=has_bf16)
    length = None if tower.any_length else model.context_length
    tokens = model.tokenize(list(_PROBES), context_length=model.context_length)

    computed_in = "f32" if precision == "f32" else "bf16"

    def compiled(converted: Any, key: str | None = None) -> OpenVinoTextTower:
        converted.reshape([-1, -1 if length is None else length])
        ready = compile_model(converted, precision=computed_in, num_threads=torch.get_num_threads())
        return OpenVinoTextTower(
            ready, padding=tower.padding, length=length, precision=computed_in, key=key
        )

    def finish(converted: Any) -> Any:
        if precision == "u8":
            compress_weights(openvino, converted)
        with torch.inference_mode():
            expected = tower(tokens)
        found = torch.from_numpy(compiled(converted)(tokens.numpy()))
        cosine = float(F.cosine_similarity(found, expected).min())
        if not cosine >= MIN_COSINE:
            raise RuntimeError(f"its embeddings are only {cosine:.4f} like PyTorch's")
        return converted

    key = f"text {model.fingerprint} {precision}" if model.fingerprint else ""
    if key and not folder_of(openvino, key).is_dir():
        logger.warning(
            "preparing the text tower of model=%s for this processor (once, some seconds)",
            model.spec.name,
        )
    example = tokens[:, :_EXAMPLE_LENGTH] if length is None else tokens
    ready = read_or_convert(openvino, core, tower, example, key, finish=finish)
    is_kept = bool(key) and folder_of(openvino, key).is_dir()
    return compiled(ready, key if is_kept else None)


def fastest_precision(tower: SentenceTower | TransformerTower, *, has_bf16: bool) -> str:
    """Chooses a precision of `compile_text_tower` by the size of a tower's layers."""
    if not has_bf16:
        return "f32"
    size = sum(each.numel() for each in tower.layers.state_dict().values())
    return "u8" if size >= _MIN_LAYERS_IN_8_BITS else "bf16"


def compress_weights(openvino: Any, converted: Any) -> None:
    """Stores the weights of the linear layers in 8 bits, with a scale and a zero for each output.

    Changes the model in place. OpenVINO computes with such weights as they are where the processor
    can, and expands them elsewhere.
    """
    opset = openvino.opset13
    for node in converted.get_ordered_ops():
        if node.get_type_name() != "Constant":
            continue
        inputs = [each for output in node.outputs() for each in output.get_target_inputs()]
        weight = node.data
        is_linear = {(each.get_node().get_type_name(), each.get_index()) for each in inputs}
        if weight.ndim != 2 or weight.size < _MIN_COMPRESSED or is_linear != {("MatMul", 1)}:
            continue
        has_outputs_first = inputs[0].get_node().get_attributes()["transpose_b"]
        codes, zero, scale = _quantize(weight.astype(np.float32), axis=int(has_outputs_first))
        codes, zero = (opset.convert(opset.constant(each), np.float32) for each in (codes, zero))
        expanded = opset.multiply(opset.subtract(codes, zero), opset.constant(scale))
        node.output(0).replace(expanded.output(0))


def _quantize(weight: np.ndarray, *, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns codes and zeros (uint8) and scales (float32): `weight ~ scale * (code - zero)`.

    Args:
        weight: A matrix.
        axis: The axis along which values share a scale.
    """
    low = np.minimum(weight.min(axis=axis, keepdims=True), 0)
    high = np.maximum(weight.max(axis=axis, keepdims=True), 0)
    scale = np.where(high > low, high - low, 1).astype(np.float32) / 255
    zero = np.rint(-low / scale)
    codes = np.clip(np.rint(weight / scale) + zero, 0, 255)
    return codes.astype(np.uint8), zero.astype(np.uint8), scale
