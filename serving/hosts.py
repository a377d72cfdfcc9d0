"""Which hosts and origins a request may name: against DNS rebinding and cross-site requests."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from reelseek.serving.errors import ApiError
from reelseek.serving.refusals import refuse

# Load balancers that ask whether a worker runs name no host.
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
SAFE_METHODS = frozenset({"GET", "HEAD"})

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-][a-z0-9._-]{0,252})(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_loopback(host: str) -> bool:
    """Whether a name or address stands for this machine alone."""
    return host == "localhost" or bool((ip := _address(host)) and ip.is_loopback)


class HostCheck:
    """Refuses requests whose Host header names another machine.

    A page of an attacker whose name resolves to this machine would otherwise be of our origin.

    Args:
        loopback_only: Allow only names of the loopback interface.
        allowed_hosts: Names to allow; `.example.org` allows its subdomains, `*` all. If empty, any
            IP address and this machine's own name.
    """

    def __init__(
        self, app: ASGIApp, *, loopback_only: bool, allowed_hosts: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in allowed_hosts if name[:1] != ".")
        self._suffixes = tuple(name.lower() for name in allowed_hosts if name[:1] == ".")
        self._allows_any_address = not loopback_only and not allowed_hosts
        if self._allows_any_address:
            own = socket.gethostname().lower()
            self._names = frozenset({own, f"{own}.local"})
        self._status_of = lru_cache(maxsize=256)(self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in HEALTH_PATHS:
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            status = self._status_of(hosts[0]) if len(hosts) == 1 and len(hosts[0]) < 300 else 400
            if status == 400:
                message = "the request must have one Host header, with a name and a port"
                await refuse(send, ApiError(400, "invalid_host", message))
                return
            if status == 421:
                message = "this host is not served here; allowed_hosts says which ones are"
                await refuse(send, ApiError(421, "unknown_host", message))
                return
        await self._app(scope, receive, send)

    def _judge(self, value: bytes) -> int:
        """Returns 200, or the status of the refusal."""
        match = _HOST.fullmatch(value.decode("latin-1").lower())
        if match is None:
            return 400
        host = match[1].strip("[]").removesuffix(".")
        is_allowed = (
            is_loopback(host)
            or host in self._names
            or "*" in self._names
            or host.endswith(self._suffixes)
            or (self._allows_any_address and _address(host) is not None)
        )
        return 200 if is_allowed else 421


class OriginCheck:
    """Refuses requests that another site's page makes its visitor's browser send.

    Browsers say in `Sec-Fetch-Site`, and older ones in `Origin`, where a request comes from; other
    programs send neither. No CORS headers are ever sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_guarded = scope["method"] not in SAFE_METHODS or scope["path"].startswith("/api/")
        if is_guarded and _is_foreign(scope):
            message = "requests from pages of other sites are refused"
            await refuse(send, ApiError(403, "cross_site", message))
            return
        await self._app(scope, receive, send)


def _is_foreign(scope: Scope) -> bool:
    site = origin = None
    host = b""
    for name, value in scope["headers"]:
        if name == b"sec-fetch-site":
            site = value
        elif name == b"origin":
            origin = value
        elif name == b"host":
            host = value
    if site is not None:  # another port of this machine is `same-site`, and foreign too
        return site not in (b"same-origin", b"none")
    return origin is not None and not _is_same_host(
        origin.decode("latin-1"), host.decode("latin-1")
    )


def _is_same_host(origin: str, host: str) -> bool:
    """Compares without the scheme: behind a proxy that ends TLS, ours is another."""
    scheme, separator, named = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if not separator or port is None:
        return False
    return named.removesuffix(port) == host.lower().removesuffix(port)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
