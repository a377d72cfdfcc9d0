"""Sends an ApiError from a layer below FastAPI, and reads headers there."""

from collections.abc import Sequence

from starlette.types import Scope, Send

from reelseek.serving.errors import ApiError

RawHeaders = Sequence[tuple[bytes, bytes]]


async def refuse(send: Send, error: ApiError, *, headers: RawHeaders = ()) -> None:
    """Sends an error as the whole response."""
    body = error.body
    await send(
        {
            "type": "http.response.start",
            "status": error.status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> bytes | None:
    """Returns the first header of a name in lower case; None if it is missing."""
    for each, value in scope["headers"]:
        if each == name:
            return value
    return None
