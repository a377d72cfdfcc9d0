"""A URL -> the store that holds it. fsspec and its libraries are imported when the first URL is
opened."""

import threading
from importlib.util import find_spec
from typing import Any

from reelseek.indexing.remote.filesystem import FsspecStore
from reelseek.indexing.remote.s3 import S3Store
from reelseek.indexing.remote.store import Store
from reelseek.indexing.remote.web import WebStore
from reelseek.text.urls import public_url, scheme_of

_NEEDS = {"s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}
_NEEDS |= {"https": "aiohttp", "http": "aiohttp"}
_OF_THE_EXTRA = {"s3fs", "aiohttp", "fsspec"}
_PARTS_AT_ONCE = 2  # of an object that is written, of 50 MB each


def open_store(url: str, *, timeout_seconds: float = 60.0, part_attempts: int = 1) -> Store:
    """Opens what holds a URL. Nothing is asked of the network yet.

    Args:
        part_attempts: requests for each part of an object that is written, which the caller cannot
            repeat without the others; S3 only.

    Raises:
        ValueError: a library that it needs is not installed.
    """
    scheme = scheme_of(url)
    for needed in ("fsspec", _NEEDS.get(scheme, "fsspec")):
        if find_spec(needed) is None:
            remedy = "'reelseek[remote]'" if needed in _OF_THE_EXTRA else needed
            raise ValueError(f"{public_url(url)}: needs {needed}: pip install {remedy}")
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    if scheme == "s3":
        options["max_concurrency"] = _PARTS_AT_ONCE
        options["config_kwargs"] = {
            "retries": {"mode": "standard", "total_max_attempts": part_attempts},
            "connect_timeout": timeout_seconds,
            "read_timeout": timeout_seconds,
        }
    if scheme in ("http", "https"):
        from aiohttp import ClientTimeout

        limits = ClientTimeout(connect=timeout_seconds, sock_read=timeout_seconds)
        options["client_kwargs"] = {"timeout": limits, "trust_env": True}
    fs = fsspec.filesystem(scheme, **options)
    if scheme == "s3":
        fs.retries = 1  # `Retry` does it, with one limit
        return S3Store(fs, timeout_seconds)
    kind = WebStore if scheme in ("http", "https") else FsspecStore
    return kind(fs, timeout_seconds)


class Stores:
    """The stores of a run, one for each scheme."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._by_scheme: dict[str, Store] = {}
        self._opening = threading.Lock()

    def of(self, url: str) -> Store:
        """Returns what holds a URL.

        Raises:
            ValueError: a library that it needs is not installed.
        """
        with self._opening:
            scheme = scheme_of(url)
            if scheme not in self._by_scheme:
                self._by_scheme[scheme] = open_store(url, timeout_seconds=self._timeout_seconds)
            return self._by_scheme[scheme]
