"""Paths as people write them on a command line -> paths that the system knows, and URLs that an
option may have."""

import os
from dataclasses import Field, fields

from reelseek.configs.options import Options
from reelseek.text.urls import SCHEMES, check_url, is_url, public_url


def expand_path(path: str) -> str:
    """Replaces `~`, `$HOME` and other variables as a shell does.

    Several shells, Make and cron pass them on as they are. A file that is really called so is
    meant before what the name would expand to.
    """
    return path if os.path.lexists(path) else os.path.expanduser(os.path.expandvars(path))


def expand_paths(config: Options) -> None:
    """Expands all options that `path_option` has made, in place; URLs stay as they are.

    Raises:
        ValueError: a URL holds credentials or cannot be read, or the option takes none.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, Options):
            expand_paths(value)
        elif not each.metadata.get("is_path"):
            continue
        elif isinstance(value, list):
            setattr(config, each.name, [_expanded(each, config, path) for path in value])
        elif value is not None:
            setattr(config, each.name, _expanded(each, config, value))


def _expanded(option: Field, config: Options, value: str) -> str:
    if not is_url(value):
        return expand_path(value)
    is_index = config.section == "index" or option.name == "index"
    name = "index" if is_index else option.name
    if not option.metadata["takes_urls"]:
        remedy = "a published index is only searched; give the folder it was made in"
        raise ValueError(
            f"{name}={public_url(value)}: is a URL; "
            + (remedy if is_index else "give a path on this machine")
        )
    takes = option.metadata["takes_urls"]
    check_url(name, value, schemes=SCHEMES if takes is True else takes)
    return value
