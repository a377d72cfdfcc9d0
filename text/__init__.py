"""Encodes sentences into text embeddings, and analyses queries."""

import lazy_loader

import reelseek  # noqa: F401  # in a checkout, its modules are shared

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
