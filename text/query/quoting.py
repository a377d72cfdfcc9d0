"""Replaces quoted phrases by placeholder characters that no pattern matches.

Quoted text is taken literally: it has no filters, negations or spelling mistakes.
"""

import regex

_QUOTED = regex.compile(r'"([^"\n]{1,200})"|「([^」\n]{1,200})」|『([^』\n]{1,200})』')
_FIRST = 0xE000  # of the private use characters, which normalised text has none of
_MAX_PHRASES = 100

# A placeholder as part of a pattern.
SIGN = "[\ue000-\ue063]"


class Quoted:
    """A text and its quoted phrases.

    Attributes:
        text: The text with a placeholder for each phrase and its quotes.
    """

    def __init__(self, text: str) -> None:
        self._phrases: list[str] = []
        self.text = _QUOTED.sub(self._take, text)

    def _take(self, match: regex.Match[str]) -> str:
        if len(self._phrases) == _MAX_PHRASES:
            return match[0]
        self._phrases.append(match[0])
        return chr(_FIRST + len(self._phrases) - 1)

    def restored(self, text: str) -> str:
        """Puts the phrases back in their quotes."""
        return self._put_back(text, slice(None))

    def unquoted(self, text: str) -> str:
        """Puts the phrases back without quotes."""
        return self._put_back(text, slice(1, -1))

    def _put_back(self, text: str, part: slice) -> str:
        for i, phrase in enumerate(self._phrases):
            text = text.replace(chr(_FIRST + i), phrase[part])
        return text
