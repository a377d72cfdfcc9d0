"""Paths as people write them on a command line -> paths that the system knows."""

import os
import re
from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, ListConfig, OmegaConf


def expand_path(path: str) -> str:
    """Replaces `~`, `$HOME` and other variables as a shell does.

    Several shells, Make and cron pass them on as they are. A file that is really called so is
    meant before what the name would expand to.
    """
    return path if os.path.lexists(path) else os.path.expanduser(os.path.expandvars(path))


def expand_paths(config: DictConfig) -> None:
    """Expands all options of a composed configuration that `path_option` has made, in place."""
    schema = OmegaConf.get_type(config)
    if not is_dataclass(schema):
        return
    for field in fields(schema):
        if OmegaConf.is_missing(config, field.name):
            continue
        value = config[field.name]
        if isinstance(value, DictConfig):
            expand_paths(value)
        elif isinstance(value, ListConfig) and field.metadata.get("is_path"):
            config[field.name] = [escape_interpolation(expand_path(path)) for path in value]
        elif isinstance(value, str) and field.metadata.get("is_path"):
            config[field.name] = escape_interpolation(expand_path(value))


def escape_interpolation(text: str) -> str:
    """A text that OmegaConf reads as this one, though `${` would start an interpolation."""
    # Backslashes right before `${` are escapes themselves.
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", text)
