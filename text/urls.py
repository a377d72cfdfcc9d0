"""URLs of object storage and the web, as users write them: which text is one, and what of it may be
shown and stored.

Credentials come from the environment of the library that reads a URL, never from the URL: one that
holds a user or a password is refused, and a query, which may be a signature, is never stored.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

SCHEMES = ("s3", "gs", "hf", "https", "http")
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB = ("https", "http")  # for the others, `?` and `#` are characters of a key
_QUERY = re.compile(r"[?#][^\s'\"<>]*")
_CREDENTIALS = re.compile(r"(\w://)[^/\s'\"]*@")


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def check_url(option: str, url: str, *, schemes: Sequence[str] = SCHEMES) -> None:
    """Refuses a URL that cannot be read or holds credentials.

    Args:
        schemes: that the option takes.

    Raises:
        ValueError: names the option, what is wrong, and the remedy; credentials are not in it.
    """
    scheme, rest = scheme_of(url), url.partition("://")[2]
    docs = "docs/events.md" if schemes is REDIS_SCHEMES else "docs/remote.md"
    shown = public_url(url)
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise ValueError(
            f"{option}={shown}: holds a user or a password; leave them out and give credentials "
            f"in the environment ({docs})"
        )
    if scheme not in schemes:
        raise ValueError(f"{option}={shown}: must begin with {', '.join(schemes)} and ://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not host:
        raise ValueError(f"{option}={shown}: names no {'host' if scheme in _WEB else 'bucket'}")


def public_url(url: str) -> str:
    """Returns a URL as it may be shown and stored: without query and credentials."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in _WEB:
        rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}{separator}{host.rpartition('@')[2]}{slash}{path}"


def as_link(address: str) -> str:
    """Returns a video's path or URL as a link of a page or a timeline."""
    if not is_url(address):
        return Path(address).as_uri()
    if scheme_of(address) in _WEB:  # escaped already
        return quote(address, safe=":/%!$&'()*+,;=@~")
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{quote(rest)}"


def without_secrets(message: str) -> str:
    """Removes the queries and credentials of URLs from a library's message."""
    found = _CREDENTIALS.sub(r"\1", message)
    return _QUERY.sub("", found) if "://" in found else found
