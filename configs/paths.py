"""Paths as people write them on a command line -> paths that the system knows."""

import os
from dataclasses import fields

from reelseek.configs.options import Options


def expand_path(path: str) -> str:
    """Replaces `~`, `$HOME` and other variables as a shell does.

    Several shells, Make and cron pass them on as they are. A file that is really called so is
    meant before what the name would expand to.
    """
    return path if os.path.lexists(path) else os.path.expanduser(os.path.expandvars(path))


def expand_paths(config: Options) -> None:
    """Expands all options that `path_option` has made, in place."""
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, Options):
            expand_paths(value)
        elif not each.metadata.get("is_path"):
            continue
        elif isinstance(value, list):
            setattr(config, each.name, [expand_path(path) for path in value])
        elif value is not None:
            setattr(config, each.name, expand_path(value))
