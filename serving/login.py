"""Lets requests in by token or session; `/login` turns a token into a session for browsers."""

from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import parse_qs, quote

from starlette.types import ASGIApp, Receive, Scope, Send

from reelseek.serving.errors import ApiError
from reelseek.serving.hosts import HEALTH_PATHS, SAFE_METHODS
from reelseek.serving.rates import TokenBuckets, client_of
from reelseek.serving.refusals import header, refuse
from reelseek.serving.tokens import Access, Tokens, bearer_token

_MAX_NEXT_LETTERS = 4000
_CHALLENGE = ((b"www-authenticate", b"Bearer"),)
# Beside the health of the service, only what the form needs to look like the page.
_PUBLIC_PATHS = HEALTH_PATHS | {"/page/style.css", "/page/login.css"}
# A browser that follows another site's link sends no SameSite=Strict cookie; our own link gets it.
_AGAIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>reelseek</title>
<meta http-equiv="refresh" content="0;url={next}"></head>
<body><a href="{next}">Continue</a></body></html>
"""


class TokenCheck:
    """Refuses requests without a token or session where one is needed.

    Notes in `scope["state"]["access"]` what the request may do.

    Args:
        tokens: The tokens of this service.
        failures: Counts wrong tokens; a client beyond it is refused without a look at its token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        failures: TokenBuckets,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._failures = failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/login":
            await self._login(scope, receive, send)
            return
        if path == "/logout":
            await self._logout(scope, send)
            return
        try:
            access = self._access(scope)
        except ApiError as error:
            await refuse(send, error, headers=_CHALLENGE if error.status == 401 else ())
            return
        if access is Access.none and path not in _PUBLIC_PATHS:
            await self._ask(scope, send)
            return
        scope.setdefault("state", {})["access"] = access
        await self._app(scope, receive, send)

    def _access(self, scope: Scope) -> Access:
        """Raises an ApiError for a wrong token, even where none is needed."""
        given = bearer_token(scope)
        if given is not None:
            return self._check(scope, given)
        access = self._tokens.cookie_access(scope)
        return max(access, Access.read) if self._tokens.anyone_reads else access

    def _check(self, scope: Scope, token: str | bytes) -> Access:
        client = client_of(scope)
        if wait := self._failures.wait_seconds(client):
            message = "this client has sent too many wrong tokens"
            raise ApiError(429, "too_many_wrong_tokens", message, retry_after_seconds=wait)
        access = self._tokens.access_of(token)
        if access is Access.none:
            self._failures.take(client)
            raise ApiError(401, "wrong_token", "the token is wrong")
        return access

    async def _ask(self, scope: Scope, send: Send) -> None:
        """Asks a program for its token, and sends a browser to the form."""
        accepts_html = b"text/html" in (header(scope, b"accept") or b"")
        is_page = accepts_html and not scope["path"].startswith("/api/")
        if not is_page or scope["method"] not in SAFE_METHODS:
            message = "this service needs a token: Authorization: Bearer TOKEN"
            await refuse(send, ApiError(401, "token_needed", message), headers=_CHALLENGE)
            return
        target = quote(scope["path"]) + _query(scope)
        if header(scope, b"sec-fetch-site") == b"cross-site":
            await _send_page(send, 200, _AGAIN.format(next=escape(_local(target))))
            return
        await _redirect(send, f"/login?next={quote(_local(target), safe='')}")

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in SAFE_METHODS:
            fields = _fields(scope["query_string"])
            await _send_page(send, 200, _form(fields.get("next", "/")))
            return
        if scope["method"] != "POST":
            await refuse(send, ApiError(405, "method_not_allowed", "use GET or POST"))
            return
        body = await _read(receive)
        if body is None:  # the client is gone, or its body was cut
            return
        fields = _fields(body)
        try:
            access = self._check(scope, fields.get("token", ""))
        except ApiError as error:
            page = _form(fields.get("next", "/"), message=f"Not signed in: {error.message}.")
            retry = [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
            await _send_page(send, error.status, page, *retry)
            return
        cookie = self._tokens.set_cookie(scope, self._tokens.new_session(access))
        await _redirect(send, _local(fields.get("next", "/")), cookie)

    async def _logout(self, scope: Scope, send: Send) -> None:
        if scope["method"] != "POST":
            await refuse(send, ApiError(405, "method_not_allowed", "use POST"))
            return
        await _redirect(send, "/login", self._tokens.set_cookie(scope, ""))


def _query(scope: Scope) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"?{query}" if query else ""


def _local(target: str) -> str:
    """Returns a path of this service; others become the page."""
    is_local = target.startswith("/") and not target.startswith(("//", "/\\", "/login"))
    is_plain = target.isascii() and target.isprintable() and len(target) <= _MAX_NEXT_LETTERS
    return target if is_local and is_plain else "/"


def _form(target: str, *, message: str = "") -> str:
    return _template().substitute(next=escape(_local(target)), message=escape(message))


@cache
def _template() -> Template:
    return Template(files("reelseek.serving.page").joinpath("login.html").read_text("utf-8"))


def _fields(encoded: bytes) -> dict[str, str]:
    """Reads a form or a query; empty if it is neither."""
    try:
        parsed = parse_qs(encoded.decode("latin-1"), max_num_fields=8)
    except ValueError:
        return {}
    return {name: values[0] for name, values in parsed.items()}


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def _send_page(send: Send, status: int, page: str, *headers: tuple[bytes, bytes]) -> None:
    body = page.encode()
    start = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, target: str, *headers: tuple[bytes, bytes]) -> None:
    start = [
        (b"location", target.encode()),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 303, "headers": start})
    await send({"type": "http.response.body", "body": b""})
