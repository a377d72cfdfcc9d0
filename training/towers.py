"""A model's towers -> trunk and head each, so that a head can be trained on features that the
trunk has computed once; and the layers of a trunk.

Trunk and head share their parameters with the model: training them trains it.
"""

import copy
import hashlib
from typing import Any

import torch
from torch import nn


class Projection(nn.Module):
    """A bare matrix of a tower as a module: `(..., F)` to `(..., D)`."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight


class TextTrunk(nn.Module):
    """The text tower of an open_clip `CLIP`, which is part of it: `(B, L)` tokens to `(B, F)`."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.tower = _without(clip, "visual", "logit_scale", "logit_bias", "text_projection")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.tower.encode_text(tokens)


def split_image_tower(clip: Any) -> tuple[nn.Module, nn.Module]:
    """Splits the image tower of an open_clip model before its last projection.

    Returns:
        The trunk, `(T, 3, H, W)` normalised frames to `(T, F)` features, and the head, `(..., F)`
        to `(..., D)`. A tower without a projection of its own is all trunk, and its head passes
        features on.
    """
    visual = clip.visual
    trunk, head = _split(visual, ("head", "proj"))
    inner = getattr(visual, "trunk", None)
    is_whole = trunk is visual and isinstance(inner, nn.Module)
    if is_whole and isinstance(getattr(inner, "head", None), nn.Linear):
        # timm's own classifier serves as the projection, in EVA and the Perception Encoder; one
        # that is more than a matrix pools as well, and stays with the trunk.
        inner, head = _split(visual.trunk, ("head",))
        trunk = _without(visual)
        trunk._modules["trunk"] = inner
    return trunk, head


def split_text_tower(clip: Any) -> tuple[nn.Module, nn.Module]:
    """Splits the text tower: `(B, L)` tokens to `(B, F)` features, and those to `(B, D)`."""
    if isinstance(getattr(clip, "text", None), nn.Module):
        return _split(clip.text, ("proj", "text_projection"))
    _, head = _split(clip, ("text_projection",))
    return TextTrunk(clip), head


def trunk_fingerprint(trunk: nn.Module) -> str:
    """Returns a hex digest of a trunk's weights, which keys the cache of its features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(trunk.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _split(tower: nn.Module, names: tuple[str, ...]) -> tuple[nn.Module, nn.Module]:
    for name in names:
        part = getattr(tower, name, None)
        if isinstance(part, nn.Parameter):
            return _without(tower, name), Projection(part)
        if isinstance(part, nn.Module) and any(True for _ in part.parameters()):
            return _without(tower, name), part
    return tower, nn.Identity()


def _without(tower: nn.Module, *names: str) -> Any:
    """Returns a view of the tower that shares all its parts but those of these names."""
    view = copy.copy(tower)
    view._parameters = dict(tower._parameters)
    view._modules = dict(tower._modules)
    for name in names:
        if name in ("head", "proj") and name in view._modules:
            view._modules[name] = nn.Identity()  # called by the tower
        else:  # the tower skips what is None
            view._parameters.pop(name, None)
            view._modules.pop(name, None)
            setattr(view, name, None)
    return view


def trunk_layers(trunk: nn.Module) -> list[list[nn.Parameter]]:
    """Returns a trunk's parameters in layers from its input to its output: those before the blocks,
    each block, and those after them.

    The blocks are the children of the largest list of modules in the trunk: `blocks` of timm's
    towers, `resblocks` of open_clip's, `layer` of transformers'.
    """
    lists = [
        module
        for module in trunk.modules()
        if isinstance(module, nn.Sequential | nn.ModuleList) and len(module) > 1
    ]
    if not lists:
        return [[], list(trunk.parameters()), []]
    blocks = [list(block.parameters()) for block in max(lists, key=_num_weights)]
    in_blocks = {id(parameter) for block in blocks for parameter in block}
    embeddings = {  # which read the input, wherever they are listed
        id(module.weight) for module in trunk.modules() if isinstance(module, nn.Embedding)
    }
    before: list[nn.Parameter] = []
    after: list[nn.Parameter] = []
    seen_blocks = False
    for parameter in trunk.parameters():
        if id(parameter) in in_blocks:
            seen_blocks = True
        elif seen_blocks and id(parameter) not in embeddings:
            after.append(parameter)
        else:
            before.append(parameter)
    return [before, *blocks, after]


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
