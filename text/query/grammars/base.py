"""The parts of a language's grammar. Each language has a page of patterns beside this module."""

from functools import cache
from typing import NamedTuple

import regex

from reelseek.text.query.quoting import SIGN

# Parts of patterns: a word or a quoted phrase, and the end of a clause.
WORD = rf"(?:{SIGN}|[\p{{L}}\p{{M}}\p{{N}}'][\p{{L}}\p{{M}}\p{{N}}'\-_]*)"
END = r"(?=\s*(?:$|[\n,.;:!?。]))"


@cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """Compiles a pattern once, ignoring case."""
    return regex.compile(pattern, regex.IGNORECASE)


class Negation(NamedTuple):
    """How a language says that something is absent.

    Attributes:
        hint: A cheap pattern that every text with a negation matches.
        patterns: Patterns with a group `not_seen`; the rest of a match is the negating words.
        separator: Separates the items of an enumeration in `not_seen`.
    """

    hint: str
    patterns: tuple[str, ...]
    separator: str


class Order(NamedTuple):
    """How a language says that one event follows another.

    Attributes:
        between: Stands between two events, the earlier one first.
        first: Stands before the first event.
        after: "After X, Y", with groups `first` and `later`.
        before: "X before Y": stands between two events.
    """

    between: str
    first: str
    after: str | None = None
    before: str | None = None
