"""Checks that a model can read a query."""

import logging
from collections.abc import Set

from reelseek.text.scripts import scripts_of
from reelseek.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def check_query(query: str, tokenizer: Tokenizer, *, scripts: Set[str]) -> None:
    """Logs a warning if the model cannot read all of a query.

    Args:
        scripts: Scripts the model was trained on; empty if unknown.

    Raises:
        ValueError: The query is empty.
    """
    if not query.strip():
        raise ValueError("query is empty: say in a few words what the video should show")
    if tokenizer.is_cut(query):
        logger.warning(
            "the query is longer than the %d tokens that the model reads; its end is ignored",
            tokenizer.context_length,
        )
    if unknown := scripts_of(query) - scripts if scripts else frozenset():
        logger.warning(
            "the query has %s letters, and the model was trained on %s only: expect poor "
            "answers; index with a multilingual model, such as model=siglip2_b16",
            ", ".join(sorted(unknown)),
            ", ".join(sorted(scripts)),
        )
