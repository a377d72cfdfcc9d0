"""Services -> the ASGI application: routes, errors in one form, request ids, times and metrics."""

import logging
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.configs.command_line import program_version
from reelseek.serving import telemetry
from reelseek.serving.errors import ApiError, error_body
from reelseek.serving.personalizing import Personalization
from reelseek.serving.recommending import Recommendations
from reelseek.serving.routes import (
    events,
    health,
    library,
    media,
    page,
    recommend,
    search,
    suggest,
    videos,
)
from reelseek.serving.search_endpoint import SearchEndpoint
from reelseek.serving.security import Security, SecuritySettings, require_write_token
from reelseek.serving.services import Services

logger = logging.getLogger(__name__)

_DESCRIPTION = """Finds videos, and the seconds in them, by what they show and say.

Errors are `{"error": {"code", "message"}}`. Each answer has an `X-Request-ID`."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media"}


def create_app(services: Services) -> FastAPI:
    """Makes the application of one worker."""
    app = FastAPI(
        title="reelseek",
        version=program_version(),
        description=_DESCRIPTION,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
    )
    services.recommendations = services.recommendations or Recommendations(
        services.config, events=services.events, searcher=services.opened_searcher
    )
    services.personal = services.personal or Personalization.from_config(
        services.config, searcher=services.opened_searcher
    )
    for route in (page, suggest, media, events, health, videos):
        app.include_router(route.router(services))
    endpoint = SearchEndpoint(services, search.search_answer)
    for route in (search, recommend):
        app.include_router(route.router(services, endpoint))
    may_write = require_write_token(services)
    app.include_router(library.router(services, may_write=may_write))
    app.add_exception_handler(ApiError, _api_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _invalid_request)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(Security, settings=SecuritySettings.from_config(services.config))
    app.add_middleware(RequestLog)  # outermost: what is refused is counted, too
    return app


class UnexpectedErrors:
    """Answers a mistake of our own with 500 and a line without details, which are in the log.

    It stands inside the other middleware, which add their headers to its answer, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def note_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, note_begin)
        except Exception:
            request_id = scope.get("state", {}).get("request_id", "")
            logger.exception("unexpected error", extra={"fields": {"request_id": request_id}})
            if has_begun:  # the connection is closed, so that nobody takes the answer for whole
                raise
            message = f"the service failed; its log says why, under {request_id}"
            await _json_error(500, error_body("internal_error", message))(scope, receive, send)


class RequestLog:
    """Gives each request an id, counts it, and logs it.

    The id is the caller's `X-Request-ID` where that is short and plain; it is in `scope["state"]`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            path = getattr(scope.get("route"), "path", "other")
            telemetry.REQUESTS.labels(path, str(status)).inc()
            telemetry.REQUEST_SECONDS.labels(path).observe(seconds)
            if path not in _UNLOGGED:
                fields = {
                    **{"request_id": request_id, "method": scope["method"], "route": path},
                    **{"status": status, "ms": round(1000 * seconds, 2)},
                }
                logger.info("request", extra={"fields": fields})


_UNLOGGED = {"/healthz", "/readyz", "/metrics"}


def _request_id(headers: Sequence[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(8)


def _json_error(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers=headers, media_type="application/json")


async def _api_error(_: Request, error: ApiError) -> Response:
    return _json_error(error.status, error.body, error.headers)


async def _invalid_request(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body", "path"))
    message = f"{where}: {first['msg']}" if where else str(first["msg"])
    return _json_error(422, error_body("invalid_request", message))


async def _http_error(_: Request, error: HTTPException) -> Response:
    code = _CODES.get(error.status_code, f"http_{error.status_code}")
    headers: Any = error.headers
    return _json_error(error.status_code, error_body(code, str(error.detail)), headers)
