"""Titles of items -> embeddings by a text tower."""

from collections.abc import Callable, Sequence

import numpy as np

from reelseek.recommendation.recommender import Progress, silent

_CHUNK_TITLES = 256

# Maps n sentences to `(n, C)` float32, L2-normalised.
EmbedSentences = Callable[[Sequence[str]], np.ndarray]


def load_text_tower(name: str) -> tuple[EmbedSentences, str]:
    """Loads the text tower of a model; returns how it embeds sentences, and its fingerprint.

    Raises:
        ValueError: there is no such model.
    """
    from reelseek.configs.composition import load_model_config
    from reelseek.ranking.index_model import load_future_encoder

    encoder = load_future_encoder(load_model_config(name), device="cpu")
    return encoder.sentences, encoder.fingerprint


def embed_titles(
    titles: Sequence[str], embed: EmbedSentences, *, progress: Progress = silent
) -> np.ndarray:
    """Embeds titles, each different one once.

    Args:
        titles: N; blank where unknown.

    Returns:
        `(N, C)` float32: L2-normalised around their mean, as all titles have much in common; zeros
        for blank ones.
    """
    stripped = [title.strip() for title in titles]
    # Titles of about equal length together: less padding.
    different = sorted(
        {title for title in stripped if title}, key=lambda title: (len(title), title)
    )
    parts = []
    for first in range(0, len(different), _CHUNK_TITLES):
        parts.append(np.asarray(embed(different[first : first + _CHUNK_TITLES]), np.float32))
        progress(min(1.0, (first + _CHUNK_TITLES) / len(different)), "titles read")
    if not parts:
        return np.zeros((len(stripped), 1), np.float32)
    embedded = np.concatenate(parts)
    centred = embedded - embedded.mean(axis=0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    row_by_title = {title: row for row, title in enumerate(different)}
    content = np.zeros((len(stripped), embedded.shape[1]), np.float32)
    for item, title in enumerate(stripped):
        if title:
            content[item] = centred[row_by_title[title]]
    return content
