"""The types of the configurations of completion; see `configs.schema` for how they are kept."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from reelseek.configs.options import Options, Range, option, path_option
from reelseek.configs.schema import DEVICE
from reelseek.text.urls import REDIS_SCHEMES

_MAX_LETTERS = 100


class _LetterRange:
    """`1-4`, or a number."""

    def __contains__(self, value: Any) -> bool:
        if not re.fullmatch(r"\d{1,3}(-\d{1,3})?", value):
            return False
        low, high = letter_range(value)
        return 1 <= low <= high <= _MAX_LETTERS

    def __str__(self) -> str:
        return f"a range such as 1-4, or a number, from 1 to {_MAX_LETTERS}"


def letter_range(value: str) -> tuple[int, int]:
    """`1-4` -> (1, 4), `2` -> (2, 2)."""
    low, _, high = value.partition("-")
    return int(low), int(high or low)


class CompletionMode(Enum):
    query = "query"
    word = "word"


@dataclass
class EvaluateCompletionConfig(Options, command="evaluate_completion"):
    log: str = path_option("a file of past queries, see docs/completion.md")
    test: str = path_option("a file of the queries that are asked, in the same form")
    mode: CompletionMode = option("what is completed: the whole query, or its current word")
    prefix_letters: str = option("letters typed, of the query or of the word", _LetterRange())
    text_model: str | None = option(
        "whose embeddings of words are learned from, offline; null for none", is_words=False
    )
    trees: bool = option("let trees order the words, which takes a minute to train")
    seed: int = option("of what is drawn at random", Range(0))


@dataclass
class CompletionConfig(Options, command="completion"):
    events: str = path_option(
        "the folder or redis:// server of the log of events, see docs/events.md",
        takes_urls=REDIS_SCHEMES,
    )
    output: str | None = path_option(
        "the folder for what is built, made if missing; default: completion in events", None
    )
    index: str | None = path_option(
        "the folder of the index that is asked whether a query has an answer; default: none is",
        None,
    )
    min_confidence: float = option(
        "probability of a match that the best hit of a suggestion must have", Range(0, 1)
    )
    min_users: int = option("that must have asked for what is suggested", Range(1, 255))
    max_queries_per_user: int = option("a day that count, so that no robot outweighs", Range(1))
    block_list: str | None = path_option(
        "a file of what is never suggested, an entry a line; see docs/completion.md", None
    )
    text_model: str | None = option(
        "whose embeddings of words and queries are learned from, offline; null for none",
        is_words=False,
    )
    trees: bool = option("let trees order the words, which takes a minute to train")
    seed: int = option("of what is drawn at random", Range(0))
    device: str = option("where the model runs", DEVICE)
