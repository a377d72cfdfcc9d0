"""Requests that fail for a while are tried again; those that fail for good give one line."""

import errno
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from reelseek.text.urls import without_secrets

_FIRST_SECONDS, _MAX_SECONDS = 0.2, 20.0
_RETRIED_STATUS = frozenset({408, 409, 425, 429})  # and those from 500 on
_MAX_REASON = 200
_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
# By name, since the libraries that raise them are optional.
_FOR_GOOD = frozenset({"NoCredentialsError", "PartialCredentialsError", "NoRegionError"})

Result = TypeVar("Result")


class RemoteError(Exception):
    """A request that failed for good; its text is one line, without credentials."""


class ObjectMissingError(RemoteError):
    """There is no such object."""


class ObjectChangedError(Exception):
    """An object changed while it was read."""


class CutShortError(OSError):
    """A response ended before its object did."""


@dataclass(frozen=True)
class Retry:
    """Tries a request again with exponential backoff and full jitter.

    Attributes:
        attempts: requests at most.
        sleep: waits; tests pass another.
        is_stopped: whether nobody waits for the result any more.
    """

    attempts: int = 6
    sleep: Callable[[float], object] = time.sleep
    is_stopped: Callable[[], bool] = lambda: False

    def call(self, request: Callable[[], Result]) -> Result:
        """Returns what the request does.

        Raises:
            RemoteError: it failed for good, or too often.
            ObjectChangedError: passed on.
        """
        for attempt in range(self.attempts):
            try:
                return request()
            except (RemoteError, ObjectChangedError):
                raise
            except Exception as error:
                if isinstance(error, FileNotFoundError):
                    raise ObjectMissingError("no such object") from error
                is_last = attempt + 1 == self.attempts or self.is_stopped()
                if is_last or not is_transient(error):
                    tried = f" ({attempt + 1} attempts)" if attempt else ""
                    raise RemoteError(reason_of(error) + tried) from error
            delay = min(_MAX_SECONDS, _FIRST_SECONDS * 2**attempt)
            self.sleep(random.uniform(0, delay))
        raise AssertionError("unreachable")


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, PermissionError | ImportError | NotImplementedError | TypeError):
        return False
    if type(error).__name__ in _FOR_GOOD or getattr(error, "errno", None) in _OF_THE_DISK:
        return False
    status = status_of(error)
    return status is None or status >= 500 or status in _RETRIED_STATUS


def reason_of(error: Exception) -> str:
    """Returns why a request failed, in one line, without credentials."""
    if isinstance(error, TimeoutError) or type(error).__name__.endswith("TimeoutError"):
        return "the request timed out"
    if isinstance(error, PermissionError) or type(error).__name__ in _FOR_GOOD:
        return f"access is denied ({_first_line(error)})"
    status = status_of(error)
    if status is not None:
        return f"the server answered with status {status}"
    return f"{type(error).__name__}: {_first_line(error)}".rstrip(": ")


def status_of(error: BaseException | None) -> int | None:
    """Returns the HTTP status of an error of aiohttp or botocore, or of what it was made from."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(error, "status", None)
        if isinstance(status, int) and status >= 400:
            return status
        error = error.__cause__
    return None


def _first_line(error: Exception) -> str:
    return " ".join(without_secrets(str(error)).split())[:_MAX_REASON]
