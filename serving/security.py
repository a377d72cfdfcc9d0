"""Puts all checks of a request before an application, and says which settings are safe."""

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.serving.errors import ApiError
from reelseek.serving.hosts import HostCheck, OriginCheck, is_loopback
from reelseek.serving.limits import BodyLimit, BodyLimits, UrlLimit
from reelseek.serving.login import TokenCheck
from reelseek.serving.rates import RateLimit, TokenBuckets
from reelseek.serving.tokens import Access, Tokens

if TYPE_CHECKING:
    from fastapi import Request

    from reelseek.configs.schema import ServeConfig
    from reelseek.serving.connections import BoundedProtocol
    from reelseek.serving.services import Services

MIN_TOKEN_LETTERS = 16
_FIELDS_BYTES = 1 << 20  # of a form, beside its files
_LOGIN_BYTES = 16 << 10

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        b"object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # `no-referrer` would make the origin of our own forms `null`.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), hid=(), "
        b"midi=(), display-capture=(), browsing-topics=()",
    ),
]


@dataclass(frozen=True)
class SecuritySettings:
    """Who may ask this service, and how much.

    Attributes:
        host: Address that the service listens on.
        token: Token to read; None if anybody may. Also the token to write if `write_token` is None.
        write_token: Token to read and write.
        allowed_hosts: Names in the Host header to answer to beyond loopback, see `HostCheck`.
        trusted_proxies: Addresses and networks whose `X-Forwarded-For` and `-Proto` are believed.
        requests_per_second: Of a client, for each worker; 0 for no limit.
        burst: Requests that a client may send at once.
        session_seconds: Life of a browser's session.
        max_url_bytes: Length of path and query.
        bodies: Limits of bodies.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    write_token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    requests_per_second: float = 50.0
    burst: float = 300.0
    session_seconds: float = 7 * 86400.0
    max_url_bytes: int = 8 << 10
    bodies: BodyLimits = field(default_factory=BodyLimits)

    @classmethod
    def from_config(cls, config: "ServeConfig") -> "SecuritySettings":
        upload_mb = max(config.upload_image_mb, config.upload_video_mb)
        form_bytes = int(upload_mb * (1 << 20)) + _FIELDS_BYTES
        return cls(
            host=config.host,
            token=config.token,
            write_token=config.write_token,
            allowed_hosts=tuple(config.allowed_hosts),
            trusted_proxies=tuple(config.trusted_proxies),
            requests_per_second=config.requests_per_second,
            bodies=BodyLimits(
                bytes_by_path={"/login": _LOGIN_BYTES},
                multipart_bytes_by_path={"/api/search": form_bytes},
            ),
        )

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach the service, directly or through a proxy."""
        return not is_loopback(self.host) or bool(self.trusted_proxies)


def check_settings(settings: SecuritySettings) -> None:
    """Refuses settings that let strangers in.

    Raises:
        ValueError: Other machines may reach the service, and it has no token, or a short one.
    """
    for name in ("token", "write_token"):
        token = getattr(settings, name)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise ValueError(f"{name}: must be printable ASCII letters, at least one")
    for proxy in settings.trusted_proxies:
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            raise ValueError(
                f"trusted_proxies={proxy}: must be an address or a network, such as 10.0.0.0/8"
            ) from None
    if not settings.is_exposed:
        return
    where = f"host={settings.host}" if not is_loopback(settings.host) else "trusted_proxies"
    if settings.token is None:
        raise ValueError(
            f"{where}: other machines can reach this service, so it needs a token: set token or "
            "the environment's REELSEEK_TOKEN, or host=127.0.0.1"
        )
    for name in ("token", "write_token"):
        token = getattr(settings, name)
        if token is not None and len(token) < MIN_TOKEN_LETTERS:
            raise ValueError(
                f"{name}: has {len(token)} letters, and needs at least {MIN_TOKEN_LETTERS} where "
                "other machines can reach this service"
            )


class Security:
    """All checks of a request, from the cheapest to the dearest; each is a layer of its own."""

    def __init__(self, app: ASGIApp, *, settings: SecuritySettings) -> None:
        check_settings(settings)
        self._unguarded = app
        tokens = Tokens(
            settings.token, settings.write_token, session_seconds=settings.session_seconds
        )
        # 10 at once and one in 10 seconds: a million guesses take months.
        failures = TokenBuckets(0.1, 10)
        app = TokenCheck(app, tokens=tokens, failures=failures)
        app = BodyLimit(app, limits=settings.bodies)
        if settings.requests_per_second:
            app = RateLimit(app, buckets=TokenBuckets(settings.requests_per_second, settings.burst))
        app = OriginCheck(app)
        app = UrlLimit(app, max_bytes=settings.max_url_bytes)
        app = HostCheck(
            app, loopback_only=not settings.is_exposed, allowed_hosts=settings.allowed_hosts
        )
        if settings.trusted_proxies:
            from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

            app = ProxyHeadersMiddleware(app, list(settings.trusted_proxies))  # type: ignore
        self._app = SecurityHeaders(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = scope["type"] == "http"
        await (self._app if guarded else self._unguarded)(scope, receive, send)


class SecurityHeaders:
    """Adds the headers that tell a browser what this service's pages may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def http_protocol(config: "ServeConfig") -> type["BoundedProtocol"]:
    """Returns the class for `uvicorn.Config(http=...)`, for one server."""
    from reelseek.serving.connection_table import ConnectionLimits
    from reelseek.serving.connections import bounded_protocol

    proxies = [ipaddress.ip_network(each, strict=False) for each in config.trusted_proxies]

    def is_exempt(host: str) -> bool:
        return is_loopback(host) or any(ipaddress.ip_address(host) in each for each in proxies)

    limits = ConnectionLimits(
        max_connections=config.max_connections, max_per_client=config.max_connections_per_client
    )
    return bounded_protocol(limits, is_exempt=is_exempt)


def require_write_token(services: "Services") -> Callable[["Request"], Awaitable[None]]:
    """Returns a FastAPI dependency that refuses requests which may not write."""
    is_read_only = services.config.token is None and services.config.write_token is None

    # Without an annotation of its own FastAPI would take `request` for a parameter of the query.
    from fastapi import Request

    async def may_write(request: Request) -> None:
        if is_read_only:
            message = "this service only reads: start it with a token to allow changes"
            raise ApiError(403, "read_only", message)
        # Nobody writes where `Security` does not stand before the application.
        if request.scope.get("state", {}).get("access") is not Access.write:
            raise ApiError(403, "write_token_needed", "changes need the token to write")

    return may_write
