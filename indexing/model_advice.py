"""The first index with the default model -> which model to use instead, and its price; once a user.

Figures: docs/models.md.
"""

import os
from pathlib import Path

_MARKER = "model-advice-given"
_ON_PROCESSOR = (
    "siglip2_b32 finds more, in many languages: COCO text-to-image R@1 47.2, where ViT-B/32 has "
    "39.3; a third of mini's speed, and 1.5 GB to download"
)
_ON_GPU = (
    "pe_core_b16 finds more, and was trained on video: COCO text-to-image R@1 50.9, where ViT-B/32 "
    "has 39.3; a third of ViT-B/32's speed, and 1.8 GB to download"
)


def first_advice(cache_folder: Path, *, has_gpu: bool) -> str:
    """Returns one line for a user who has named no model; empty if it was said before, or in CI.

    Args:
        cache_folder: of the user; keeps a marker.
        has_gpu: whether the model runs on a GPU.
    """
    if os.environ.get("CI"):
        return ""
    try:
        cache_folder.mkdir(parents=True, exist_ok=True)
        (cache_folder / _MARKER).touch(exist_ok=False)
    except FileExistsError:
        return ""
    except OSError:  # said again next time
        pass
    return (
        "model=mini is the small built-in model; with a network, model="
        f"{_ON_GPU if has_gpu else _ON_PROCESSOR}. An index keeps its model: choose before you "
        "index a large collection (docs/models.md)"
    )
