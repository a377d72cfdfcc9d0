"""Text from anywhere (file names, titles, captions) -> text that a terminal can be given."""

# Joiners of Persian, Indic scripts and emoji, which change how their neighbours look and no more;
# and blanks of other widths, as in Japanese names.
_HARMLESS = frozenset(
    "\u200c\u200d\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000"
)


def printable(text: str) -> str:
    r"""The text on one line, with Python's escapes for what a terminal would obey or cannot show.

    That is control characters (`\n`, `\x1b`), marks that reverse the direction of reading
    (`\u202e`), invisible characters, and halves of characters (`\udcff`), which stand for bytes of
    file names that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else _escaped(c) for c in text)


def printable_lines(text: str) -> str:
    """Likewise, of a text of several lines, which stay lines."""
    return "\n".join(map(printable, text.split("\n")))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
