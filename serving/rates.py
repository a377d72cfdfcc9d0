"""How many requests a client may send: a token bucket for each, in bounded memory."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from reelseek.serving.errors import ApiError
from reelseek.serving.hosts import is_loopback
from reelseek.serving.refusals import refuse


class TokenBuckets:
    """A token bucket for each client, in bounded memory.

    Args:
        per_second: Tokens that a bucket gains.
        burst: Tokens that a full bucket holds.
        max_clients: Buckets to keep; those unused longest are dropped, which fills them.
        clock: Returns seconds.
    """

    def __init__(
        self,
        per_second: float,
        burst: float,
        *,
        max_clients: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._max_clients = max_clients
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str) -> float:
        """Takes a token. Returns 0, or the seconds until there is one."""
        tokens, now = self._level(client)
        wait = max(0.0, (1 - tokens) / self._per_second)
        self._buckets[client] = (tokens if wait else tokens - 1, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        return wait

    def wait_seconds(self, client: str) -> float:
        """Returns the seconds until there is a token, and takes none."""
        return max(0.0, (1 - self._level(client)[0]) / self._per_second)

    def _level(self, client: str) -> tuple[float, float]:
        now = self._clock()
        tokens, at = self._buckets.get(client, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._per_second), now


class RateLimit:
    """Refuses a client's requests beyond a rate; this machine's own are not counted."""

    def __init__(self, app: ASGIApp, *, buckets: TokenBuckets) -> None:
        self._app = app
        self._buckets = buckets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope)
        if client and (wait := self._buckets.take(client)):
            message = "this client sends too many requests"
            error = ApiError(429, "too_many_requests", message, retry_after_seconds=wait)
            await refuse(send, error)
            return
        await self._app(scope, receive, send)


def client_of(scope: Scope) -> str:
    """Returns the client to count a request for; empty for this machine."""
    client = scope.get("client")
    return client_key(client[0]) if client else ""


@lru_cache(maxsize=4096)
def client_key(host: str) -> str:
    """Returns the client of an address: itself, or the /64 network of IPv6; empty for loopback."""
    if is_loopback(host):
        return ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
