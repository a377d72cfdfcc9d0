"""The folder that keeps expensive results for the next run."""

import os
from pathlib import Path


def default_cache_folder() -> Path:
    """Returns `$REELSEEK_CACHE`, or the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("REELSEEK_CACHE")
    return Path(chosen) if chosen else user_cache_path("reelseek")
