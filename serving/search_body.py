"""The body of `POST /api/search` -> a search request; its files are decoded and encoded here."""

from pathlib import Path

from anyio import to_thread
from fastapi import Request
from msgspec.structs import replace

from reelseek.serving.channel import RemoteError, Unavailable
from reelseek.serving.errors import ApiError
from reelseek.serving.search_request import SearchRequest, from_form, from_json
from reelseek.serving.services import Services
from reelseek.serving.upload_files import UploadLimits, upload_form

_UPLOAD_SECONDS = 60.0


async def read_post(request: Request, services: Services) -> tuple[SearchRequest, int | None]:
    """Returns the request, and its time limit in milliseconds.

    Raises:
        ApiError: the body is of another form, or a file cannot be used.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return from_json(await request.body())
    if content_type != "multipart/form-data":
        message = "send JSON, or a form (multipart/form-data) with files"
        raise ApiError(415, "unsupported_media", message)
    limits = UploadLimits.from_config(services.config)
    async with upload_form(request, limits=limits, folder=services.upload_folder) as form:
        asked, timeout_ms = from_form(form.fields)
        uploads = [
            await to_thread.run_sync(_encode, services, path, kind) for path, kind in form.files
        ]
    return replace(asked, uploads=tuple(uploads)), timeout_ms


def _encode(services: Services, path: Path, kind: str) -> bytes:
    """The embedding of a file, as bytes of float32."""
    try:
        return services.encoder.call("upload", [str(path), kind], timeout_seconds=_UPLOAD_SECONDS)
    except RemoteError as error:
        if error.code == "ValueError":
            raise ApiError(400, "unusable_file", f"{kind}: {error}") from error
        raise _busy() from error
    except Unavailable as error:
        raise _busy() from error


def _busy() -> ApiError:
    message = "files are being decoded for others; try again"
    return ApiError(503, "uploads_busy", message, retry_after_seconds=5)
