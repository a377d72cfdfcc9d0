"""A progress bar on stderr that shows rate and time left; in a log file, a line now and then."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*, total: int, desc: str, disable: bool = False) -> "tqdm[Any]":
    """A bar that counts videos."""
    is_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=desc,
        unit="video",
        disable=disable,
        dynamic_ncols=is_terminal,
        mininterval=0.2 if is_terminal else 30.0,
    )
