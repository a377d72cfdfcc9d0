"""A title -> its text and its own #hashtags."""

import re

_HASHTAG = re.compile(r"[#\uff03]([^\W_]\w*)")


def split_hashtags(title: str) -> tuple[str, list[str]]:
    """Returns the title without its hashtags, and each different one without its sign.

    A number sign within a word, as in `C#` or a link, starts no hashtag.
    """
    tags: dict[str, None] = {}

    def take(match: re.Match[str]) -> str:
        before = title[match.start() - 1 : match.start()]
        if before and before.isascii() and (before.isalnum() or before in "/&"):
            return match[0]
        tags.setdefault(match[1])
        return " "

    rest = _HASHTAG.sub(take, title)
    return " ".join(rest.split()), list(tags)
