"""Imports open_clip, and builds its networks, without work that is of no use here."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWING = {
    *(torch.Tensor.normal_, torch.Tensor.uniform_),
    *(init.normal_, init.uniform_, init.kaiming_uniform_),
}


def import_open_clip() -> ModuleType:
    """Returns open_clip, which is imported without scikit-learn.

    transformers, on which open_clip stands, imports scikit-learn, SciPy and pandas wherever they
    are installed, to measure how well one language model guesses for another. That is a seventh of
    the time to import all.
    """
    import transformers.utils as utils

    is_sklearn_available = utils.is_sklearn_available
    utils.is_sklearn_available = lambda: False
    try:
        import transformers.generation.candidate_generator  # noqa: F401
    except ImportError:  # of another version of transformers, which may lack the module
        pass
    finally:
        utils.is_sklearn_available = is_sklearn_available
    import open_clip

    return open_clip


class _WithoutDrawing(TorchFunctionMode):
    """Leaves tensors as they are where random numbers were to be drawn; in this thread alone."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _DRAWING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_first_weights() -> Iterator[None]:
    """Networks that are built inside draw no first weights: all are to be read from a file.

    Drawing those of `mini` takes longer than reading its file.
    """
    with _WithoutDrawing():
        yield
