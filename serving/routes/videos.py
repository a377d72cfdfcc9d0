"""`GET /api/videos/{id}`: a video of the index."""

from typing import Annotated, Any

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Path, Request, Response

from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.videos import VideoRecord
from reelseek.serving.answers import with_request_id
from reelseek.serving.errors import ApiError
from reelseek.serving.media.client import MediaClient
from reelseek.serving.media.requests import MediaFile, Probe
from reelseek.serving.services import Services

VideoId = Annotated[str, Path(max_length=64, description="As hits have it")]
_READING_THREADS = 8  # which wait for the media process to look at a file

_VIDEO_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "request_id": "5f0c2a9d",
                    "id": "7h4iuog5w56v",
                    "video": "holiday/beach.mp4",
                    "duration_seconds": 63.2,
                    "metadata": {"title": "At the beach"},
                    "date": "2024-07-31T12:00:00",
                    "date_source": "creation_time",
                    "segments": [[0.0, 4.0], [4.0, 8.0]],
                    "media": {"plays": True, "type": "video/mp4", "size_bytes": 8123456},
                }
            }
        }
    }
}


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api/videos/{video_id}", tags=["videos"])
    media = MediaClient(services.media)
    limiter = CapacityLimiter(_READING_THREADS)

    async def find(video_id: str) -> VideoRecord:
        reader = services.searcher.reader
        record = await to_thread.run_sync(lambda: reader.record(video_id), limiter=limiter)
        if record is None:
            raise ApiError(404, "not_found", "no video has this id")
        return record

    @routes.get("", responses=_VIDEO_EXAMPLE, summary="What the index holds of a video")
    async def video(request: Request, video_id: VideoId) -> Response:
        record = await find(video_id)
        played = await to_thread.run_sync(lambda: _media_fields(media, record), limiter=limiter)
        body = msgspec.json.encode({**_record_fields(record), "media": played})
        request_id = request.scope["state"]["request_id"]
        return Response(with_request_id(body, request_id), media_type="application/json")

    return routes


def _record_fields(record: VideoRecord) -> dict[str, Any]:
    date, date_source = date_of(record.metadata, record.signature.modified_ns)
    return {
        "id": record.public_id,
        "video": record.key,
        "duration_seconds": record.duration_seconds,
        "metadata": record.metadata,
        "date": date,
        "date_source": date_source,
        "segments": [[round(float(second), 3) for second in span] for span in record.spans],
    }


def _media_fields(media: MediaClient, record: VideoRecord) -> dict[str, Any]:
    """Whether a browser plays the file; not where it is gone, or nobody can look at it now."""
    size_bytes = record.signature.size_bytes
    try:
        return {**media.probe(Probe(MediaFile.of(record))), "size_bytes": size_bytes}
    except ApiError as error:
        return {"plays": False, "type": "", "size_bytes": size_bytes, "problem": error.code}
