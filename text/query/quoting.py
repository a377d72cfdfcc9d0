"""A text with quoted phrases -> the same with one sign for each, which no pattern reads.

What stands in quotes is meant as it stands: nothing in it is a filter, a negation or a mistake.
"""

import regex

_QUOTED = regex.compile(r'"([^"\n]{1,200})"|「([^」\n]{1,200})」|『([^』\n]{1,200})』')
_FIRST = 0xE000  # of the signs for private use, which a normalised text has none of
_MAX_PHRASES = 100

# Such a sign, as part of a pattern.
SIGN = "[\ue000-\ue063]"


class Quoted:
    """The phrases that were taken out of a text.

    Attributes:
        text: with a sign for each phrase, quotes included.
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
        """The text with its phrases in their quotes again."""
        return self._put_back(text, slice(None))

    def unquoted(self, text: str) -> str:
        """The text with its phrases, without their quotes."""
        return self._put_back(text, slice(1, -1))

    def _put_back(self, text: str, part: slice) -> str:
        for i, phrase in enumerate(self._phrases):
            text = text.replace(chr(_FIRST + i), phrase[part])
        return text
