"""Low-rank adapters in a trunk's blocks (LoRA, Hu et al. 2022, section 4.1), by PEFT."""

from typing import Any

from torch import nn

_ADAPTER = "default"


def add_lora(trunk: nn.Module, *, rank: int) -> None:
    """Puts adapters, which start as nothing, beside each linear map in the trunk's blocks.

    Linear maps are `Linear`, `MultiheadAttention` and convolutions of one pixel. Only the adapters
    take gradients.

    Raises:
        ValueError: PEFT is not installed, or the trunk has no such map.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ValueError("LoRA needs PEFT: pip install 'reelseek[train]'") from error
    names = _linear_maps(trunk)
    if not names:
        raise ValueError("this tower has no linear maps to adapt; train blocks of it instead")
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, bias="none")
    inject_adapter_in_model(config, trunk, adapter_name=_ADAPTER)


def merged(model: Any) -> Any:
    """The model with its adapters added into its weights, in place."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return model  # no adapters without PEFT
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    return model


def _linear_maps(trunk: nn.Module) -> list[str]:
    names: list[str] = []
    inside_attention: list[str] = []
    for name, module in trunk.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside_attention.append(name + ".")
        is_pointwise = (
            isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
        )
        is_linear = isinstance(module, nn.Linear | nn.MultiheadAttention) or is_pointwise
        if is_linear and "." in name and not name.startswith(tuple(inside_attention)):
            names.append(name)
    return names
