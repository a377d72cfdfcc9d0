"""Embeddings of everyday sentences, which every index has: those of the default models are kept.

The tower of `mini` takes seconds for them, longer than for the videos of a small index.
"""

import hashlib
import io
import logging
from pathlib import Path

import numpy as np
import torch

from reelseek.indexing.store.atomic import make_folder, write_atomically
from reelseek.text import TextEncoder, Tokenizer, everyday_queries
from reelseek.vision.models.cache_folder import default_cache_folder
from reelseek.vision.models.dual_encoder import DualEncoder
from reelseek.vision.models.names import MINI_FOLDERS

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 32


def everyday_embeddings(model: DualEncoder, device: torch.device) -> np.ndarray:
    """Returns `(n, D)` float32: FAISS is tuned for them, and hits are compared with them.

    Those of `mini` and `mini_fast` are read from the user's cache if an earlier run with the same
    weights has left them there. A file that is damaged is made again.
    """
    sentences = everyday_queries()
    path = _path(model.fingerprint, sentences) if model.spec.name in MINI_FOLDERS else None
    if path is not None:
        kept = _read(path)
        if kept is not None and kept.shape == (len(sentences), model.embedding_dim):
            return kept
    tokenizer = Tokenizer(model.tokenize, context_length=model.context_length)
    embeddings = TextEncoder(model.clip, tokenizer, device=device).encode(sentences).numpy()
    if path is not None:
        _keep(path, embeddings)
    return embeddings


def _path(fingerprint: str, sentences: list[str]) -> Path:
    digest = hashlib.sha256("\n".join(sentences).encode()).hexdigest()[:16]
    return default_cache_folder() / "everyday" / f"{fingerprint}-{digest}"


def _read(path: Path) -> np.ndarray | None:
    """Returns what `_keep` has written; None if nothing whole is there."""
    try:
        content = path.read_bytes()
        digest, array = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(array).digest() != digest:
            return None
        return np.load(io.BytesIO(array), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _keep(path: Path, embeddings: np.ndarray) -> None:
    """Writes a SHA-256 and NumPy's format. A cache that cannot be written is passed over."""
    file = io.BytesIO()
    np.save(file, embeddings, allow_pickle=False)
    array = file.getvalue()
    try:
        make_folder(path.parent)
        write_atomically(path, hashlib.sha256(array).digest() + array)
    except OSError as error:
        logger.info("%s: cannot be written (%s)", path, error)
