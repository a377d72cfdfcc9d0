"""Aligns a sentence encoder with the classes of ImageNet: what makes `mini` a dual encoder.

    python -m reelseek.vision.models.alignment mini|mini_fast

This computes the file that reelseek carries for a model (`alignments/`), from the encoder's weights
and the names of the classes, in float64 and in some minutes. Models are made from the file and not
from this, so that every machine makes the same weights: the last digits of a computation depend on
the processor.
"""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from reelseek.vision.models.mini_text import SENTENCE_ENCODERS, SentenceEncoder
from reelseek.vision.models.names import MINI_EMBEDDING_DIM

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a video of a {}")
_FOLDER = Path(__file__).parent / "alignments"
_GRID = 2.0**18
_BATCH = 100


def load_alignment(name: str) -> dict[str, torch.Tensor]:
    """Reads how the text tower of width W and the image tower of a model are aligned.

    Returns:
        By name: `classes` `(512, 1000)` float32, the embeddings of the class names less their mean,
        mapped; `projection` `(512, W)` float32, the orthonormal map; `mean` `(W,)` float64, of all
        sentences that the class names were put into.
    """
    return load_file(_FOLDER / f"{name}.safetensors")


def align(features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Computes an alignment from features.

    Args:
        features: `(T, C, W)` float64, mean-pooled features of C class names in T templates.

    Returns:
        See `load_alignment`.
    """
    class_embeddings = F.normalize(features, dim=-1).mean(dim=0)  # (C, W)
    centred = class_embeddings - class_embeddings.mean(dim=0)
    projection = _projection(centred)
    return {
        "classes": on_grid(projection @ centred.T).float(),
        "projection": on_grid(projection).float(),
        "mean": features.mean(dim=(0, 1)),
    }


def on_grid(values: torch.Tensor) -> torch.Tensor:
    """Rounds float64 values to 18 binary digits behind the point, which float32 holds exactly."""
    return (values * _GRID).round() / _GRID


def pooled_features(encoder: SentenceEncoder, sentences: list[str]) -> torch.Tensor:
    """Returns a sentence encoder's mean-pooled features, `(len(sentences), W)` float64."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        weights = encoder.unpack(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        config = AutoConfig.from_pretrained(folder)
    transformer = AutoModel.from_config(config).eval()
    transformer.load_state_dict({name: weights[name] for name in transformer.state_dict()})
    transformer.double()
    features = torch.empty(len(sentences), config.hidden_size, dtype=torch.float64)
    # Sentences of like length together, so that little padding is computed.
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
    for first in range(0, len(order), _BATCH):
        chosen = order[first : first + _BATCH]
        batch = tokenizer([sentences[i] for i in chosen], padding=True, return_tensors="pt")
        words = batch.attention_mask.unsqueeze(-1)
        with torch.inference_mode():
            hidden = transformer(batch.input_ids, attention_mask=batch.attention_mask)
        features[chosen] = (hidden.last_hidden_state * words).sum(dim=1) / words.sum(dim=1)
    return features


def _projection(centred: torch.Tensor) -> torch.Tensor:
    """Returns an orthonormal map `(512, W)`; into fewer dimensions, it keeps those that vary most.

    Args:
        centred: `(C, W)` float64, class embeddings less their mean.
    """
    width = centred.shape[1]
    hadamard = torch.ones(1, 1, dtype=torch.float64)  # Sylvester's construction
    while len(hadamard) < MINI_EMBEDDING_DIM:
        hadamard = torch.cat(
            [torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)]
        )
    hadamard = hadamard / MINI_EMBEDDING_DIM**0.5
    if width <= MINI_EMBEDDING_DIM:
        return hadamard[:, :width]
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:MINI_EMBEDDING_DIM]
    # Turned so that all dimensions vary alike: embeddings are stored in 8 bits and less.
    return hadamard @ directions


def main() -> None:
    import open_clip

    (name,) = sys.argv[1:]
    sentences = [
        template.format(each) for template in TEMPLATES for each in open_clip.IMAGENET_CLASSNAMES
    ]
    features = pooled_features(SENTENCE_ENCODERS[name], sentences)
    alignment = align(features.unflatten(0, (len(TEMPLATES), -1)))
    save_file(alignment, _FOLDER / f"{name}.safetensors")


if __name__ == "__main__":
    main()
