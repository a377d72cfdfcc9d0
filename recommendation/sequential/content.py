"""Titles or frames of items -> what the network knows of them beside their ids."""

from collections.abc import Callable, Sequence

import numpy as np

from reelseek.recommendation.recommender import Progress, silent

_CHUNK_TITLES = 256

# Maps n sentences to `(n, C)` float32, L2-normalised.
EmbedSentences = Callable[[Sequence[str]], np.ndarray]
# Returns `(N, C)` float32, a row for each item, zeros where nothing is known of it, or None for no
# content; and the fingerprint of what made it, "" for no content.
ReadContent = Callable[[Progress], tuple[np.ndarray | None, str]]


def titles_content(titles: Sequence[str] | None, text_model: str) -> ReadContent:
    """Returns what embeds titles, by index, blank where unknown; None for no titles."""

    def read(progress: Progress) -> tuple[np.ndarray | None, str]:
        if titles is None or not any(title.strip() for title in titles):
            return None, ""
        embed, fingerprint = load_text_tower(text_model)
        return embed_titles(titles, embed, progress=progress), fingerprint

    return read


def unit_length(embeddings: np.ndarray) -> np.ndarray:
    """L2-normalises `(N, C)` embeddings; zeros stay zeros."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, np.float32(1e-6)), np.float32)


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
    embedded = unit_length(embedded - embedded.mean(axis=0))
    row_by_title = {title: row for row, title in enumerate(different)}
    content = np.zeros((len(stripped), embedded.shape[1]), np.float32)
    for item, title in enumerate(stripped):
        if title:
            content[item] = embedded[row_by_title[title]]
    return content
