"""Makes text from untrusted sources (file names, titles, captions) safe for a terminal."""

# Joiners of Persian, Indic scripts and emoji, and blanks of other widths, as in Japanese names.
_HARMLESS = frozenset(
    "\u200c\u200d\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u202f\u205f\u3000"
)


def printable(text: str) -> str:
    r"""Returns the text on one line with Python escapes for unprintable characters.

    Escapes control characters (`\n`, `\x1b`), bidi marks (`\u202e`), invisible characters, and
    surrogates (`\udcff`), which stand for bytes of file names that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _HARMLESS else ascii(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Returns the printable text and keeps its line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def clock(seconds: float) -> str:
    """Seconds as `m:ss`, or `h:mm:ss` from an hour on."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}"
