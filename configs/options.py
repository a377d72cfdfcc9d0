"""The options that each command line has: their names, types, presets and lines of help."""

import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from importlib.resources import files

from omegaconf import DictConfig, OmegaConf

from reelseek.configs import schema, train_schema

GROUPS = {"model": schema.ModelConfig, "sampling": None}
# A whole run's options in one file; others on the command line go before it.
RECIPES = "experiment"
SCHEMAS: dict[str, type] = {
    "index": schema.IndexConfig,
    "status": schema.StatusConfig,
    "verify": schema.VerifyConfig,
    "repair": schema.RepairConfig,
    "delete": schema.DeleteConfig,
    "merge": schema.MergeConfig,
    "enrich": schema.EnrichConfig,
    "export": schema.ExportConfig,
    "ranker": schema.RankerConfig,
    "token_matching": schema.TokenMatchingConfig,
    "search": schema.SearchConfig,
    "clip": schema.ClipConfig,
    "train": train_schema.TrainConfig,
}

# Options of 0.1 that have other names now.
_RENAMED = {
    "data.max_failed": "data.max_failed_fraction",
    "decoding.videos_each": "decoding.max_videos_per_worker",
    "optimizer.keep_start": "optimizer.wise_ft_alpha",
    "reranker": "token_matching",
    "sampling.frames_a_shot": "sampling.frames_per_shot",
    "sampling.skip_similar": "sampling.dedup_threshold",
    "test_share": "test_fraction",
}


def preset_names(group: str) -> list[str]:
    """The YAML files of a group, such as the models in `configs/model/`."""
    folder = files("reelseek.configs").joinpath(group)
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml") and entry.name != "custom.yaml"
    )


def find_option(node: type, name: str, prefix: str = "") -> Field:
    """The declaration of an option.

    Args:
        node: the schema that has it.
        name: with dots for what is inside, such as `decoding.workers`.

    Raises:
        ValueError: no such option; near names are given.
    """
    head, _, rest = name.partition(".")
    if new_name := _RENAMED.get(prefix + name):
        raise ValueError(f"option {prefix}{name} is now called {new_name}")
    known = {field.name: field for field in fields(node)}
    require_known(prefix + head, [prefix + each for each in known])
    inner = GROUPS.get(head, known[head].type)
    if rest and is_dataclass(inner) and isinstance(inner, type):
        return find_option(inner, rest, f"{prefix}{head}.")
    if rest and head == "sampling":
        kinds = schema.SAMPLING_KINDS.values()
        parts = {field.name: field for kind in kinds for field in fields(kind)}
        del parts["kind"]
        require_known(f"sampling.{rest}", sorted(f"sampling.{part}" for part in parts))
        return parts[rest]
    if rest and typing.get_origin(inner) is not dict:
        raise ValueError(f"unknown option {prefix}{name}: {prefix}{head} has no parts")
    return known[head]


def require_known(name: str, known: Sequence[str]) -> None:
    """Raises a ValueError, with near names, where a name is none of those that are known."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near = near or [each for each in known if len(name) == 1 and each.startswith(name)]
        hint = f"near names: {', '.join(near)}" if near else f"options: {', '.join(known)}"
        raise ValueError(f"unknown option {name}; {hint}")


def without_none(field_type: typing.Any) -> tuple[typing.Any, bool]:
    """A declared type, of which None is no part any more; and whether it was."""
    if typing.get_origin(field_type) not in (types.UnionType, typing.Union):
        return field_type, False
    (one,) = set(typing.get_args(field_type)) - {type(None)}
    return one, True


def option_rows(node: type, values: typing.Any, prefix: str = "") -> list[tuple[str, str, str]]:
    """For `--help`: each option's name, meaning and default."""
    rows = []
    for field in fields(node):
        text = field.metadata.get("help")
        if text is None:
            continue
        missing = values is None or OmegaConf.is_missing(values, field.name)
        value = None if missing else values[field.name]
        nested = _nested_schema(field.type, value)
        if field.name in GROUPS:
            rows.append((field.name, text, ""))
        if nested is not None and value is not None:
            rows += option_rows(nested, value, f"{prefix}{field.name}.")
        elif field.name not in GROUPS:
            shown = value.name if isinstance(value, schema.Enum) else value
            shown = str(shown).lower() if isinstance(shown, bool) else shown
            rows.append((prefix + field.name, text, "" if value is None else f" [{shown}]"))
    return rows


def _nested_schema(field_type: typing.Any, value: typing.Any) -> type | None:
    if isinstance(value, DictConfig) and is_dataclass(OmegaConf.get_type(value)):
        return OmegaConf.get_type(value)
    return field_type if is_dataclass(field_type) and isinstance(field_type, type) else None
