"""The values of the YAML files and of the arguments -> a checked object; the one module that knows
Hydra and OmegaConf."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from reelseek.configs import schema
from reelseek.configs.arguments import prepare_arguments
from reelseek.configs.options import Options, plain_values, preset_names
from reelseek.configs.paths import expand_paths

OptionsT = TypeVar("OptionsT", bound=Options)


def compose(node: type[OptionsT], arguments: Sequence[str]) -> OptionsT:
    """The configuration of a command: its YAML's values, and over them the arguments.

    Raises:
        ValueError: an argument is not known or not allowed, or one is missing; in one line.
    """
    from hydra.errors import HydraException

    overrides = prepare_arguments(arguments, node)
    try:
        config = cast(OptionsT, OmegaConf.to_object(_compose(node, overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_first_line(error)) from error
    expand_paths(config)
    names = {override.lstrip("+").partition("=")[0] for override in overrides}
    config.given = frozenset(names | {name.partition(".")[0] for name in names})
    return config


def default_values(node: type[Options]) -> dict[str, Any]:
    """The values of a command's YAML, `???` where one must be given."""
    return cast(dict, OmegaConf.to_container(_compose(node, []), enum_to_str=True))


def load_model_config(name: str) -> schema.ModelConfig:
    """A model by preset, open_clip name or folder, as `model=NAME` means it on a command line."""
    if name not in preset_names("model"):
        return schema.ModelConfig(name=name)
    return _load_preset(schema.ModelConfig, "model", name)


def load_decoding_config() -> schema.DecodingConfig:
    """The decoding options' own values."""
    return _load_preset(schema.DecodingConfig, "decoding", "default")


def to_yaml(config: Options) -> str:
    """All values of a configuration, to be kept beside what was made with them."""
    values = plain_values(config)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=float("inf"))


def read_yaml(path: Path) -> dict[str, Any]:
    """What `to_yaml` wrote."""
    return yaml.safe_load(path.read_text())


def _compose(node: type[Options], overrides: list[str]) -> DictConfig:
    import hydra

    _register(node)
    with hydra.initialize_config_module("reelseek.configs", version_base="1.3"):
        return hydra.compose(node.command, overrides=overrides)


def _register(node: type[Options]) -> None:
    """Tells Hydra the types; each YAML names its own first in its defaults."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(name=f"{node.command}_schema", node=node)
    store.store(group="model", name="schema", node=schema.ModelConfig)
    store.store(group="decoding", name="schema", node=schema.DecodingConfig)
    for kind, sampling in schema.SAMPLING_KINDS.items():
        store.store(group="sampling", name=f"{kind}_schema", node=sampling)


def _load_preset(node: type[OptionsT], group: str, name: str) -> OptionsT:
    path = files("reelseek.configs").joinpath(group).joinpath(f"{name}.yaml")
    values = yaml.safe_load(path.read_text())
    values.pop("defaults")
    merged = OmegaConf.merge(OmegaConf.structured(node), values)
    return cast(OptionsT, OmegaConf.to_object(merged))


def _first_line(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf, whose further lines are for their own users,
    followed by that of the error behind it."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, MissingMandatoryValue):
        name = str(error.full_key or line.rpartition(" ")[2]).removesuffix(".folder")
        return f"{name} is missing: give it as name=value; see --help"
    message = line.rstrip(".") or type(error).__name__
    if isinstance(error.__cause__, OmegaConfBaseException):
        return f"{message}: {_first_line(error.__cause__)}"
    return message
