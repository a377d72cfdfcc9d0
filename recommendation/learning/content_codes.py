"""The embedding of a video -> a few bytes that say what its frames show.

Embeddings are projected to `CODE_LENGTH` numbers by a matrix of drawn signs, which keeps inner
products up to an error of 1 / sqrt(CODE_LENGTH) (Achlioptas 2003, theorem 1.1). The signs depend on
nothing but the number of dimensions, so whoever has the embedding finds the same code.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np

__all__ = ["CODE_LENGTH", "content_codes", "directions_of"]

CODE_LENGTH = 64


def content_codes(embeddings: np.ndarray) -> list[bytes]:
    """Returns the codes of `(n, D)` embeddings, of any length each; empty ones of rows that are
    zero or hold what is no number."""
    is_known = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
    projected = np.where(is_known[:, None], embeddings, 0.0) @ _signs(embeddings.shape[1])
    largest = np.abs(projected).max(axis=1, initial=0.0)
    is_known &= largest > 0
    scale = np.divide(127.0, largest, out=np.zeros(len(largest)), where=is_known)
    codes = np.rint(projected * scale[:, None]).astype(np.int8)
    return [code.tobytes() if ok else b"" for code, ok in zip(codes, is_known, strict=True)]


def directions_of(codes: Sequence[bytes]) -> np.ndarray:
    """Returns `(n, CODE_LENGTH)` float64, L2-normalised; zeros for a code that is not known."""
    whole = [code if len(code) == CODE_LENGTH else bytes(CODE_LENGTH) for code in codes]
    found = np.frombuffer(b"".join(whole), np.int8).reshape(len(codes), CODE_LENGTH)
    values = found.astype(np.float64)
    norms = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return values / np.maximum(norms, 1.0)


@cache
def _signs(dim: int) -> np.ndarray:
    """`(dim, CODE_LENGTH)`, -1 and 1."""
    drawn = hashlib.shake_256(b"signs of content codes").digest(dim * CODE_LENGTH // 8)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8)).reshape(dim, CODE_LENGTH)
    return 2.0 * bits - 1.0
