"""What may never be suggested: words wherever they occur, and whole queries.

A file has an entry a line: `word` or `several words` block every text that has them, one after the
other; `=a whole query` blocks that alone; `#` begins a comment. Case, width, accents, punctuation
and invisible characters make no difference.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import regex

from reelseek.ranking.prefix_index import folded

_EXACT = "="
_COMMENT = "#"
_WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+")
_INVISIBLE = regex.compile(r"[\p{Cf}\u200b]+")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")


class BlockList:
    """Only read: threads may share it.

    Args:
        entries: lines of a file, without comments.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.entries = tuple(entries)
        self._exact: set[tuple[str, ...]] = set()
        self._contained: dict[str, set[tuple[str, ...]]] = {}  # by the first word
        self._parts: list[str] = []  # of scripts without blanks: found anywhere
        for entry in self.entries:
            is_exact = entry.startswith(_EXACT)
            words = _words(entry[1:] if is_exact else entry)
            if not words:
                continue
            if is_exact:
                self._exact.add(words)
            elif _UNSPACED.search(entry):
                self._parts.append("".join(words))
            else:
                self._contained.setdefault(words[0], set()).add(words)

    def __len__(self) -> int:
        return len(self.entries)

    def blocks(self, text: str) -> bool:
        """Whether a text may not be suggested."""
        if not self.entries:
            return False
        words = _words(text)
        if words in self._exact:
            return True
        joined = "".join(words)
        if any(part in joined for part in self._parts):
            return True
        return any(
            words[place : place + len(entry)] == entry
            for place, word in enumerate(words)
            for entry in self._contained.get(word, ())
        )


def read_block_list(path: Path) -> BlockList:
    """Raises a ValueError where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ValueError(f"block_list={path}: cannot be read ({reason})") from error
    lines = (line.strip() for line in text.splitlines())
    return BlockList(line for line in lines if line and not line.startswith(_COMMENT))


def _words(text: str) -> tuple[str, ...]:
    """The words of a text without accents."""
    plain = folded(_INVISIBLE.sub("", text))  # first, as some of them count as blanks
    if not plain.isascii():
        bare = "".join(
            c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c)
        )
        # Composed again, as Korean syllables come apart.
        plain = unicodedata.normalize("NFC", bare).casefold()
    return tuple(_WORD.findall(plain))
