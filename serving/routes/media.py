"""`GET /api/videos/{id}/thumbnail`, `/media` and `/clip`: what a page shows of a video.

Files are found by id in the index, never by path.
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, BinaryIO, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter

from reelseek.indexing.store.videos import VideoRecord
from reelseek.serving.errors import ApiError
from reelseek.serving.media.cache import MediaCache, cache_folder
from reelseek.serving.media.client import MediaClient, media_error
from reelseek.serving.media.errors import MediaChanged, MediaError
from reelseek.serving.media.file_answer import answer_file, cache_headers, open_regular
from reelseek.serving.media.ranges import is_not_modified
from reelseek.serving.media.requests import (
    MAX_CLIP_SECONDS,
    MAX_WIDTH,
    MIN_WIDTH,
    BrowserClip,
    MediaFile,
    Thumbnail,
)
from reelseek.serving.media.types import HEAD_BYTES, media_type
from reelseek.serving.services import Services
from reelseek.vision.errors import MAX_DURATION_SECONDS

Value = TypeVar("Value")
VideoId = Annotated[str, PathParameter(max_length=64, description="As hits have it")]
Seconds = Annotated[float, Query(ge=0, le=MAX_DURATION_SECONDS, allow_inf_nan=False)]

_READING_THREADS = 32
_CUTTING_THREADS = 64  # which wait for the media process
_MAX_WAITING = 256  # requests, for these threads
_OPENED_AGAIN = 3  # clips that vanish from the cache before they are opened

_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
_VIDEO: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": {}}},
    206: {"description": "The bytes of `Range`"},
    416: {"description": "`Range` begins after the end"},
}


class MediaEndpoint:
    """Finds videos and answers with their media, in threads that no search uses."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._media = MediaClient(services.media)
        # Only to read: the media process alone writes and removes.
        self._cache = MediaCache(cache_folder(services.config), max_bytes=0)
        self._reading = CapacityLimiter(_READING_THREADS)
        self._cutting = CapacityLimiter(_CUTTING_THREADS)

    async def thumbnail(
        self, request: Request, video_id: str, *, seconds: float | None, width: int
    ) -> Response:
        record = await self._record(video_id)
        at = record.duration_seconds / 2 if seconds is None else seconds
        asked = Thumbnail(MediaFile.of(record), at, width)
        headers = cache_headers(_etag(asked.key))
        if is_not_modified(request.headers, etag=headers["ETag"]):
            return Response(status_code=304, headers=headers)
        content = await self._read(lambda: self._cache.read(asked.key))
        if content is None:
            content = await self._cut(lambda: self._media.thumbnail(asked))
        return Response(content, headers=headers, media_type="image/jpeg")

    async def clip(
        self, request: Request, video_id: str, *, start_seconds: float, end_seconds: float
    ) -> Response:
        record = await self._record(video_id)
        asked = BrowserClip(MediaFile.of(record), start_seconds, end_seconds)
        etag = _etag(asked.key)
        if is_not_modified(request.headers, etag=etag):
            return Response(status_code=304, headers=cache_headers(etag))
        stem = PurePath(record.key).stem
        return answer_file(
            request,
            await self._open_clip(asked),
            etag=etag,
            media_type="video/mp4",
            name=f"{stem} {start_seconds:g}-{end_seconds:g}.mp4",
            limiter=self._reading,
        )

    async def media(self, request: Request, video_id: str) -> Response:
        record = await self._record(video_id)
        file, name = await self._read(lambda: _open_unchanged(MediaFile.of(record)))
        return answer_file(
            request,
            file,
            etag=f'"{record.signature.content_sha256[:32]}"',
            media_type=name,
            name=PurePath(record.key).name,
            limiter=self._reading,
            modified_seconds=record.signature.modified_ns / 1e9,
        )

    async def _open_clip(self, asked: BrowserClip) -> BinaryIO | bytes:
        for _ in range(_OPENED_AGAIN):
            made: Path | bytes | None = await self._read(lambda: self._cache.find(asked.key))
            if made is None:
                made = await self._cut(lambda: self._media.clip(asked))
            if isinstance(made, bytes):
                return made
            try:
                return await self._read(partial(open_regular, made))
            except ApiError:  # removed from the cache meanwhile
                continue
        raise ApiError(503, "overloaded", "the clip was removed again; try again")

    async def _record(self, video_id: str) -> VideoRecord:
        reader = self._services.searcher.reader
        record = await self._read(lambda: reader.record(video_id))
        if record is None:
            raise ApiError(404, "not_found", "no video has this id")
        return record

    async def _read(self, work: Callable[[], Value]) -> Value:
        return await _in_thread(work, self._reading)

    async def _cut(self, work: Callable[[], Value]) -> Value:
        return await _in_thread(work, self._cutting)


async def _in_thread(work: Callable[[], Value], limiter: CapacityLimiter) -> Value:
    if limiter.statistics().tasks_waiting >= _MAX_WAITING:
        raise ApiError(
            503, "overloaded", "too many videos are read at once; try again", retry_after_seconds=2
        )
    try:
        return await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=True)
    except MediaError as error:
        raise media_error(type(error).__name__, str(error)) from error


def _open_unchanged(file: MediaFile) -> tuple[BinaryIO, str]:
    """Opens a video, and tells its media type.

    Raises:
        MediaError: it is not there, or not the file that was indexed.
    """
    opened = open_regular(file.path)
    status = os.fstat(opened.fileno())
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.modified_ns):
        opened.close()
        raise MediaChanged("its file has changed since it was indexed")
    return opened, media_type(opened.read(HEAD_BYTES))


def _etag(key: str) -> str:
    return f'"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"'


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/videos/{video_id}", tags=["media"])
    endpoint = MediaEndpoint(services)

    @routes.get(
        "/thumbnail",
        summary="The frame on screen at a second",
        response_class=Response,
        responses=_PICTURE,
    )
    async def thumbnail(
        request: Request,
        video_id: VideoId,
        at: Annotated[
            float | None,
            Query(
                ge=0,
                le=MAX_DURATION_SECONDS,
                allow_inf_nan=False,
                description="Seconds from the first frame; default: the middle",
            ),
        ] = None,
        width: Annotated[
            int, Query(ge=MIN_WIDTH, le=MAX_WIDTH, description="Most pixels; none are added")
        ] = 320,
    ) -> Response:
        return await endpoint.thumbnail(request, video_id, seconds=at, width=width)

    async def media(request: Request, video_id: VideoId) -> Response:
        return await endpoint.media(request, video_id)

    async def clip(request: Request, video_id: VideoId, start: Seconds, end: Seconds) -> Response:
        if not 0 < end - start <= MAX_CLIP_SECONDS:
            raise ApiError(
                422,
                "out_of_range",
                f"end={end:g}: must be after start={start:g}, by at most {MAX_CLIP_SECONDS:g} "
                "seconds",
            )
        return await endpoint.clip(request, video_id, start_seconds=start, end_seconds=end)

    for path, handler, summary in (
        ("/media", media, "The video's file, in byte ranges"),
        ("/clip", clip, "Seconds of the video as H.264 and AAC, which every browser plays"),
    ):
        options: dict[str, Any] = {"summary": summary, "response_class": Response}
        routes.get(path, **options, responses=_VIDEO)(handler)
        routes.head(path, **options, include_in_schema=False)(handler)
    return routes
