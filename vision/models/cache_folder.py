"""The folder in which what took long to make is kept for the next run."""

import os
from pathlib import Path


def default_cache_folder() -> Path:
    """`$REELSEEK_CACHE`, else the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("REELSEEK_CACHE")
    return Path(chosen) if chosen else user_cache_path("reelseek")
