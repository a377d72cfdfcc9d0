"""The captions that a list gives a video -> sentences, by one rule for all readers.

Joins runs of white space to one blank. Skips blank captions and those that are not text, and names
and counts them. Counts a sentence of one video once.
"""

import logging
import unicodedata
from collections.abc import Iterable

logger = logging.getLogger(__name__)

_MAX_NAMED = 10


class CaptionReader:
    """Reads the captions of one list.

    Args:
        source: the list's name, for messages.

    Attributes:
        left_out: a line for each skipped caption: its place in the list, and why.
    """

    def __init__(self, source: object) -> None:
        self._source = source
        self.left_out: list[str] = []

    def read(self, values: object, location: str) -> list[str]:
        """Returns the sentences of a caption or of a list of captions, in order.

        Args:
            values: as the list has them; None for no captions.
            location: of the values in the list, for messages: `line 3`.
        """
        if values is None:
            return []
        if not isinstance(values, list):
            values = [values]
        sentences = []
        for number, value in enumerate(values, start=1):
            if fault := _fault(value):
                which = f"{location}, caption {number}" if len(values) > 1 else location
                self.left_out.append(f"{which} {fault}")
            else:
                sentences.append(" ".join(value.split()))
        return sentences

    def report(self) -> None:
        """Logs the captions that were left out, in one line."""
        if not self.left_out:
            return
        num = len(self.left_out)
        more = f"; and {num - _MAX_NAMED} more" if num > _MAX_NAMED else ""
        logger.warning(
            "%s: %s left out: %s%s",
            *(self._source, "1 caption is" if num == 1 else f"{num} captions are"),
            *("; ".join(self.left_out[:_MAX_NAMED]), more),
        )


def unique(sentences: Iterable[str]) -> list[str]:
    """Returns each sentence once, in the order of first appearance."""
    return list(dict.fromkeys(sentences))


def _fault(value: object) -> str:
    """Returns why a caption cannot be used; empty for one that can."""
    if not isinstance(value, str):
        return f"is {value!r:.40}, not text" if value is not None else "is missing"
    kinds = {unicodedata.category(character) for character in value}
    if "Cs" in kinds:
        return f"has half a character: {value!r:.40}"
    # Separators, and invisible characters.
    return "is blank" if kinds <= {"Zs", "Zl", "Zp", "Cc", "Cf"} else ""
