"""Who may read and write: tokens of programs, and sessions of browsers that gave one."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from enum import IntEnum
from functools import cached_property

from starlette.types import Scope

_COOKIE = b"reelseek_session"
# Browsers accept a cookie of this prefix only over TLS and for exactly this host.
_SECURE_COOKIE = b"__Host-reelseek_session"
_MAX_COOKIES = 8  # of our name; pages at other ports of this host may set some too
_COST = 1 << 14  # of guessing a weak token from a stolen session: 16 MiB and 50 ms a guess


class Access(IntEnum):
    none = 0
    read = 1
    write = 2


class Tokens:
    """Compares tokens in constant time, and signs sessions.

    All workers derive the same key from the tokens, so that a session is valid in each of them and
    across restarts, and ends when a token changes.

    Args:
        read: Token to read; None if anybody may.
        write: Token to read and write; None for the token to read. Without either, nobody writes.
        session_seconds: Life of a session.
        clock: Returns seconds since 1970.
    """

    def __init__(
        self,
        read: str | None,
        write: str | None = None,
        *,
        session_seconds: float = 7 * 86400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.anyone_reads = read is None
        self.session_seconds = session_seconds
        self._clock = clock
        self._known: list[tuple[Access, bytes]] = []
        if read is not None:
            self._known.append((Access.write if write is None else Access.read, _digest(read)))
        if write is not None:
            self._known.append((Access.write, _digest(write)))
        self._secret = f"{read or ''}\0{write or ''}".encode()

    @cached_property
    def _key(self) -> bytes:
        """Derived when the first session comes, since it takes 50 ms."""
        if not self._known:
            return secrets.token_bytes(32)
        return hashlib.scrypt(self._secret, salt=b"reelseek session", n=_COST, r=8, p=1, dklen=32)

    def access_of(self, token: str | bytes) -> Access:
        """Returns what a token allows."""
        given = _digest(token)
        found = Access.none
        for access, digest in self._known:
            if hmac.compare_digest(digest, given):
                found = access
        return found

    def new_session(self, access: Access) -> str:
        """Returns the value of a cookie that allows `access` until it expires."""
        expires = int(self._clock() + self.session_seconds)
        claims = f"{expires}.{int(access)}.{secrets.token_hex(8)}"
        return f"{claims}.{self._signature(claims)}"

    def session_access(self, session: str) -> Access:
        """Returns what a cookie's value allows."""
        claims, _, signature = session.rpartition(".")
        if not hmac.compare_digest(self._signature(claims).encode(), signature.encode()):
            return Access.none
        expires, access, _ = claims.split(".")
        return Access(int(access)) if int(expires) > self._clock() else Access.none

    def cookie_access(self, scope: Scope) -> Access:
        """Returns what the request's session allows."""
        sessions = _cookies(scope, _SECURE_COOKIE if scope["scheme"] == "https" else _COOKIE)
        return max((self.session_access(each) for each in sessions), default=Access.none)

    def set_cookie(self, scope: Scope, session: str) -> tuple[bytes, bytes]:
        """Returns the header that gives a session to a browser; an empty one ends it."""
        is_https = scope["scheme"] == "https"
        parts = [
            (_SECURE_COOKIE if is_https else _COOKIE) + b"=" + session.encode(),
            b"Path=/",
            b"Max-Age=%d" % (self.session_seconds if session else 0),
            b"HttpOnly",
            b"SameSite=Strict",
        ]
        return b"set-cookie", b"; ".join([*parts, b"Secure"] if is_https else parts)

    def _signature(self, claims: str) -> str:
        return hmac.new(self._key, claims.encode(), hashlib.sha256).hexdigest()


def bearer_token(scope: Scope) -> bytes | None:
    """Returns the token in the Authorization header; None if there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return None


def _cookies(scope: Scope, name: bytes) -> list[str]:
    found = [
        value.decode("latin-1")
        for header, line in scope["headers"]
        if header == b"cookie"
        for key, _, value in (each.strip().partition(b"=") for each in line.split(b";"))
        if key == name
    ]
    return found[:_MAX_COOKIES]


def _digest(token: str | bytes) -> bytes:
    """Hides the length of a token from a comparison."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()
