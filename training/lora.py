"""Low-rank adapters in a trunk's blocks (LoRA, Hu et al. 2022, section 4.1), by PEFT."""

from typing import Any

from torch import nn

_ADAPTER = "default"


def add_lora(trunk: nn.Module, *, rank: int) -> None:
    """Adds adapters, which start at 0, to each linear map in the trunk's blocks.

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
    """Merges the adapters into the weights, in place; returns the model."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return model  # no adapters without PEFT
    replaced: tuple[str, ...] = ()
    for name, module in list(model.named_modules()):
        if not isinstance(module, BaseTunerLayer) or name.startswith(replaced or "\0"):
            continue
        if hasattr(module, "unload_and_optionally_merge_module"):  # an attention's
            plain = module.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            module.merge()
            plain = module.get_base_layer()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, plain)
        replaced += (name + ".",)  # its submodules are replaced with it
    return model


def _linear_maps(trunk: nn.Module) -> list[str]:
    """Names of the maps that their modules compute by being called."""
    names: list[str] = []
    passed_over: tuple[str, ...] = ()
    for name, module in trunk.named_modules():
        if name.startswith(passed_over or "\0"):
            continue
        if isinstance(module, nn.MultiheadAttention):
            passed_over += (name + ".",)
            if module._qkv_same_embed_dim and "." in name:
                names.append(name)
        # Two modules read the weights of maps within them, past any adapter: the pooling of
        # open_clip's ResNets, and timm's attention of EVA-01.
        elif type(module).__name__ == "AttentionPool2d":
            passed_over += (name + ".",)
        elif getattr(module, "q_bias", None) is not None:
            passed_over += (name + ".qkv",)
        elif "." in name and (isinstance(module, nn.Linear) or _is_pointwise(module)):
            names.append(name)
    return names


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
