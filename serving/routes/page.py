"""The web page: `/`, `/status`, and the files that they load.

The files are part of the package. The page needs nothing from any other host.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from reelseek.serving.errors import ApiError
from reelseek.serving.services import Services

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
# A browser asks each time whether a file has changed, and mostly hears 304: after an upgrade no
# module of the page meets an older one.
_CACHE_CONTROL = "no-cache"
_EVENTS_ARE_OFF = b'<meta name="reelseek-events" content="off">'
_EVENTS_ARE_ON = b'<meta name="reelseek-events" content="on">'


@dataclass(frozen=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    media_type: str

    @property
    def etag(self) -> str:
        return f'"{hashlib.blake2b(self.content, digest_size=12).hexdigest()}"'


@cache
def page_files(*, keeps_events: bool) -> dict[str, PageFile]:
    """All files by name.

    Args:
        keeps_events: Whether the service keeps what users do: the page sends it only then.
    """
    found = {}
    for file in files("reelseek.serving.page").iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix in _TYPES:
            content = file.read_bytes()
            if keeps_events:
                content = content.replace(_EVENTS_ARE_OFF, _EVENTS_ARE_ON)
            found[file.name] = PageFile(content, _TYPES[suffix])
    return found


def router(services: Services) -> APIRouter:
    routes = APIRouter(include_in_schema=False)
    known = page_files(keeps_events=services.events is not None)

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def index(request: Request) -> Response:
        return _respond(request, known["index.html"])

    @routes.api_route("/status", methods=["GET", "HEAD"])
    async def status(request: Request) -> Response:
        return _respond(request, known["status.html"])

    @routes.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def file(request: Request, name: str) -> Response:
        if name not in known:
            raise ApiError(404, "not_found", "there is no such file of the page")
        return _respond(request, known[name])

    return routes


def _respond(request: Request, file: PageFile) -> Response:
    """The file; 304 where the browser has it."""
    headers = {"ETag": file.etag, "Cache-Control": _CACHE_CONTROL}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
