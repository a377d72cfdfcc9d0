"""Conditional requests and byte ranges: headers -> what to send.

Source: RFC 9110, sections 13 and 14.
"""

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)


class UnsatisfiableRange(Exception):
    """The range begins after the end."""


def byte_range(
    headers: Mapping[str, str], *, size: int, etag: str, modified_seconds: float | None = None
) -> tuple[int, int] | None:
    """Returns the first byte to send and the one after the last; None to send all.

    Several ranges at once are answered with all, which a server may do.

    Args:
        headers: of the request, by names in lower case or a mapping that ignores case.
        size: of the whole, in bytes.
        etag: of the whole; strong.

    Raises:
        UnsatisfiableRange: nothing lies in the range.
    """
    found = _RANGE.fullmatch(headers.get("range", ""))
    if found is None:
        return None
    current = {etag} if modified_seconds is None else {etag, http_date(modified_seconds)}
    if headers.get("if-range", etag) not in current:  # the caller has a part of another state
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        if not length:
            raise UnsatisfiableRange
        return size - length, size
    start = int(first)
    if last and int(last) < start:  # no range by the grammar
        return None
    if start >= size:
        raise UnsatisfiableRange
    return start, min(int(last) + 1, size) if last else size


def is_not_modified(
    headers: Mapping[str, str], *, etag: str, modified_seconds: float | None = None
) -> bool:
    """Whether the caller has what it asks for, so that a 304 answers it."""
    tags = headers.get("if-none-match")
    if tags is not None:
        given = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return etag in given or "*" in given
    since = headers.get("if-modified-since")
    if since is None or modified_seconds is None:
        return False
    try:
        return int(modified_seconds) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, TypeError):  # no date
        return False


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)
