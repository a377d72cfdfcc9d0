"""What marisa's tries are asked beyond their own methods."""

from typing import Any


def has_prefix(trie: Any, prefix: str) -> bool:
    """Whether any key begins with a prefix."""
    return next(trie.iterkeys(prefix), None) is not None
