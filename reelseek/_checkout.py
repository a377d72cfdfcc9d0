"""Lets a checkout offer its folders under two names without loading a module twice.

A wheel installs one name: `reelseek.indexing`, `reelseek.vision`, ... In a checkout the same
folders stand at the top level, so that `python -m indexing` runs. There `indexing` and
`reelseek.indexing` are made one module, whichever is imported first.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[1]
_FOLDERS = tuple(path.name for path in Path(__file__).parent.iterdir() if path.is_symlink())


def share_modules() -> None:
    """Shares what `python -m NAME` has begun to load, and whatever is imported from now on."""
    for name in _FOLDERS:
        module = sys.modules.get(name)
        if module is not None and _is_ours(getattr(module, "__file__", None)):
            sys.modules[f"reelseek.{name}"] = module
            setattr(sys.modules["reelseek"], name, module)
    sys.meta_path.insert(0, _Finder())


def _is_ours(path: str | None) -> bool:
    return path is not None and Path(path).resolve().is_relative_to(_ROOT)


class _Finder(MetaPathFinder):
    """Finds `indexing.X` as `reelseek.indexing.X`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in _FOLDERS:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or not _is_ours(spec.origin):
            return None  # a user's own module of that name
        spec.loader = _AliasLoader(name, str(spec.origin))
        return spec


class _AliasLoader(SourceFileLoader):
    """Gives the module of the long name; `python -m` takes its code."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"reelseek.{spec.name}")
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # importlib has set the alias's
