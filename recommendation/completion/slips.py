"""A prefix that nobody has typed -> those one slip away that somebody has.

A letter missing, added, wrong, or two exchanged. Only a few places are tried: where the trie ends,
and just before, as no later slip can explain why it does. The letters after the slip must agree,
two at least, or any word would do.
"""

from collections.abc import Iterator

from reelseek.recommendation.completion.phrases import Phrase, Phrases

MIN_LETTERS = 4  # typed
_MAX_LETTERS = 40
_PLACES = 4  # tried, up to where the trie ends
_AGREEING = 2  # letters after the slip


def corrected(
    phrases: Phrases, prefix: str, k: int, *, alphabet: str, min_users: int
) -> list[Phrase]:
    """Returns at most k phrases, the best first.

    Args:
        prefix: folded; no phrase begins with it.
        alphabet: letters that may be missing or right.
    """
    if not MIN_LETTERS <= len(prefix) <= _MAX_LETTERS:
        return []
    found: dict[str, float] = {}
    for other in _existing(phrases, prefix, alphabet):
        for phrase in phrases.best(other, k, min_users=min_users):
            found.setdefault(phrase.text, phrase.score)
        whole = phrases.exactly(other, min_users=min_users)
        if whole is not None:
            found.setdefault(whole.text, whole.score)
    ordered = sorted(found.items(), key=lambda each: (-each[1], each[0]))
    return [Phrase(text, score) for text, score in ordered[:k]]


def _existing(phrases: Phrases, prefix: str, alphabet: str) -> Iterator[str]:
    """The prefixes one slip away that phrases begin with."""
    end = _longest_existing(phrases, prefix)
    tried = {prefix}
    for place in range(max(1, end - _PLACES + 1), min(end + 1, len(prefix) - _AGREEING + 1)):
        head, tail = prefix[:place], prefix[place:]
        # Few letters follow a head at all, so that most are asked for once rather than twice.
        following = [head + letter for letter in alphabet if phrases.has_prefix(head + letter)]
        others = [each + tail for each in following]  # missing
        if len(tail) > _AGREEING:
            others.append(head + tail[1:])  # added
            others.append(head + tail[1] + tail[0] + tail[2:])  # exchanged
            others += [each + tail[1:] for each in following]  # wrong
        for other in others:
            if other not in tried:
                tried.add(other)
                if phrases.has_prefix(other):
                    yield other


def _longest_existing(phrases: Phrases, prefix: str) -> int:
    """How many of the first letters phrases begin with."""
    first, last = 0, len(prefix)
    while first < last:
        middle = (first + last + 1) // 2
        if phrases.has_prefix(prefix[:middle]):
            first = middle
        else:
            last = middle - 1
    return first
