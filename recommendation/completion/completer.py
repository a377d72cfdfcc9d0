"""What is typed -> whole queries: past ones, those one slip away, and word by word."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from reelseek.ranking.prefix_index import typed_form
from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.phrases import NUM_KEPT, Phrases
from reelseek.recommendation.completion.query_files import MAX_QUERY_LETTERS
from reelseek.recommendation.completion.slips import corrected
from reelseek.recommendation.completion.tokens import MAX_WORDS, Token, tokens
from reelseek.recommendation.completion.word_model import WordModel

MAX_ALPHABET = 40  # letters that a slip may have missed


class Source(Enum):
    past = "past"
    slip = "slip"
    words = "words"


@dataclass(frozen=True)
class Completion:
    """A whole query, folded, and where it comes from."""

    text: str
    source: Source


@dataclass(frozen=True)
class Completer:
    """Only read: threads may share it.

    Attributes:
        phrases: past queries.
        words: of them, for what was never asked as a whole; None for whole queries only.
        block_list: what is never suggested.
        alphabet: letters that a slip may have missed.
        min_users: that phrases and words were built with.
    """

    phrases: Phrases
    words: WordModel | None = None
    block_list: BlockList = field(default_factory=BlockList)
    alphabet: str = ""
    min_users: int = 0

    def best(self, prefix: str, k: int) -> list[str]:
        """Returns the texts of `complete`."""
        return [each.text for each in self.complete(prefix, k)]

    def complete(self, prefix: str, k: int, *, num_deleted: int = 0) -> list[Completion]:
        """Returns at most k completions, the best first; none of a long prefix, which is pasted.

        Args:
            prefix: as typed, in any form.
            num_deleted: users whose events were deleted since the model was built; each may have
                been among those who asked for a query.
        """
        if len(prefix) > MAX_QUERY_LETTERS:
            return []
        typed = typed_form(prefix)
        if not typed:
            return []
        k = min(k, NUM_KEPT)
        min_users = self.min_users + num_deleted if num_deleted else 0
        past = self.phrases.best(typed, k, min_users=min_users)
        found = {each.text: Source.past for each in past}
        if not found:
            slips = corrected(self.phrases, typed, k, alphabet=self.alphabet, min_users=min_users)
            found.update((each.text, Source.slip) for each in slips)
        if len(found) < k and self.words is not None:
            for text in self._by_words(typed, k, min_users=min_users):
                found.setdefault(text, Source.words)
        # What was built without a block list may be served with one.
        allowed = ((text, source) for text, source in found.items() if not self._blocks(text))
        return [Completion(text, source) for text, source in allowed if text != typed][:k]

    def current_word(self, before: list[str], letters: str, k: int) -> list[str]:
        """Returns at most k words for one that begins with some letters, after those before it."""
        if self.words is None:
            return []
        return [each.word for each in self.words.complete(before, letters, k)]

    def _by_words(self, typed: str, k: int, *, min_users: int) -> list[str]:
        """What is typed with its last word completed."""
        if self.words is None:
            return []
        split = tokens(typed)
        if not split or len(split) == MAX_WORDS:
            return []
        last = split[-1]
        texts: list[str] = []
        if not typed.endswith(" "):
            before = [token.word for token in split[:-1]]
            head = typed[: last.start]
            found = self.words.complete(before, last.word, k, min_users=min_users, only_asked=True)
            texts += [head + each.word for each in found if each.word != last.word]
        if typed.endswith(" ") or last.is_unspaced:
            texts += self._next_words(typed, split, k, min_users=min_users)
        return texts[:k]

    def _next_words(self, typed: str, split: list[Token], k: int, *, min_users: int) -> list[str]:
        assert self.words is not None
        before = [token.word for token in split]
        found = self.words.complete(before, "", k, min_users=min_users, only_asked=True)
        return [typed + each.word for each in found]

    def _blocks(self, text: str) -> bool:
        return self.block_list.blocks(text)


def alphabet_of(texts: Iterable[str]) -> str:
    """The most common letters of texts, at most `MAX_ALPHABET`."""
    counts = Counter(letter for text in texts for letter in text)
    return "".join(letter for letter, _ in counts.most_common(MAX_ALPHABET))
