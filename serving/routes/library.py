"""What the index holds and how far the indexer is; and changes: add, change and delete videos."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from reelseek.serving.channel import Client, RemoteError, Unavailable
from reelseek.serving.errors import ApiError
from reelseek.serving.library.report import IndexReports
from reelseek.serving.services import Services

MAX_VIDEOS = 200  # of one request
_MAX_CALLS = 4  # that wait for the library process at once; further ones wait for these
_STATUS_SECONDS, _WRITE_SECONDS = 2.0, 120.0
_IDLE = {
    **{"state": "idle", "done": 0, "total": 0, "failed": 0},
    **{"seconds_left": None, "video": "", "reason": ""},
}
_STATUS_OF = {"NotFound": (404, "not_found"), "Busy": (503, "busy")}

VideoId = Annotated[str, PathParameter(max_length=64, description="As in a hit's `id`")]


class Failure(BaseModel):
    video: str = Field(description="Key, the path below the video's folder")
    reason: str


class Indexing(BaseModel):
    state: str = Field(description="idle, running, stopped (for a change, it goes on) or failed")
    done: int
    total: int
    failed: int
    seconds_left: float | None = Field(description="null as long as nobody can tell")
    video: str = Field(description="The last that was done")
    reason: str = Field(description="Why the indexer failed; it is tried again")


class Status(BaseModel):
    name: str = Field(description="Of the index's folder")
    videos: int
    segments: int
    generation: int
    indexing: Indexing
    num_failed: int
    failures: list[Failure] = Field(description="The first 200")
    num_missing: int
    missing: list[str] = Field(description="Keys of videos whose drive is away, the first 200")
    watching: list[str] = Field(description="Names of folders")
    learning: dict[str, Any] | None = Field(
        description="How far the learner is that follows the events, and how well it predicts; "
        "null where nothing was learned yet"
    )


class NewVideos(BaseModel):
    videos: list[str] = Field(
        min_length=1,
        max_length=MAX_VIDEOS,
        description="Keys, paths below a folder of this service",
        examples=[["holiday/beach.mp4"]],
    )
    wait_seconds: float = Field(30.0, ge=0, le=90, description="At most, for them to be indexed")


class Outcome(BaseModel):
    id: str
    video: str
    outcome: str = Field(description="ok, partial or failed")
    reason: str


class Added(BaseModel):
    token: str | None = Field(description="For `after=`; null while they are still being indexed")
    videos: list[Outcome]


class Change(BaseModel):
    metadata: dict[str, Any] = Field(
        description="New values of title, captions, tags or any other name; null removes one",
        examples=[{"title": "At the beach", "tags": ["holiday", "sea"]}],
    )


class Changed(BaseModel):
    token: str = Field(description="Searches with `after=TOKEN` see the change")
    id: str
    metadata: dict[str, Any]


class Deleted(BaseModel):
    token: str
    id: str


def router(services: Services, *, may_write: Callable[..., Any] | None = None) -> APIRouter:
    """
    Args:
        may_write: dependency that refuses requests without the token to write; None: nobody may.
    """
    routes = APIRouter(prefix="/api", tags=["library"])
    write = [Depends(may_write or _refuse)]
    reports = IndexReports(Path(services.config.index or ""))
    limiter = anyio.CapacityLimiter(_MAX_CALLS)

    async def call(name: str, value: dict[str, Any], *, seconds: float = _WRITE_SECONDS) -> Any:
        library = services.library
        if library is None:
            await _refuse()
        return await to_thread.run_sync(
            lambda: _call(library, name, value, seconds), limiter=limiter
        )

    @routes.get("/status", summary="What is indexed, what failed, what is missing")
    async def status() -> Status:
        return await to_thread.run_sync(_status, services, reports)

    @routes.post("/videos", status_code=200, dependencies=write, summary="Add videos")
    async def add(new: NewVideos, response: Response) -> Added:
        added = await call("add", new.model_dump())
        if not added.pop("done"):
            response.status_code = 202
        return Added(**added)

    @routes.patch("/videos/{id}", dependencies=write, summary="Change metadata of a video")
    async def change(id: VideoId, new: Change) -> Changed:
        changed = await call("patch", {"id": id, "metadata": new.metadata})
        return Changed(id=id, **changed)

    @routes.delete("/videos/{id}", dependencies=write, summary="Delete a video from the index")
    async def delete(id: VideoId) -> Deleted:
        deleted = await call("delete", {"ids": [id]})
        return Deleted(id=id, **deleted)

    return routes


def _call(library: Client | None, name: str, value: dict[str, Any], seconds: float) -> Any:
    assert library is not None
    try:
        return library.call(name, value, timeout_seconds=seconds)
    except RemoteError as error:
        if error.code == "InvalidRequest":
            raise ApiError(400, "invalid_request", str(error)) from error
        if error.code not in _STATUS_OF:
            raise ApiError(500, "write_failed", "the change failed; the log says why") from error
        status, code = _STATUS_OF[error.code]
        retry = 5.0 if status == 503 else None
        raise ApiError(status, code, str(error), retry_after_seconds=retry) from error
    except Unavailable as error:
        raise ApiError(
            503, "unavailable", "the library does not answer", retry_after_seconds=5
        ) from error


def _status(services: Services, reports: IndexReports) -> Status:
    try:
        report = reports.read()
    except ValueError as error:
        raise ApiError(500, "index_damaged", "the index cannot be read") from error
    live: dict[str, Any] = {"indexing": _IDLE, "watching": []}
    if services.library is not None:
        try:
            live = services.library.call("status", timeout_seconds=_STATUS_SECONDS)
        except (RemoteError, Unavailable):
            reason = "the library process does not answer"
            live["indexing"] = _IDLE | {"state": "failed", "reason": reason}
    learning = None if services.personal is None else services.personal.status()
    return Status(
        name=Path(services.config.index or "").name, **asdict(report), **live, learning=learning
    )


async def _refuse() -> None:
    raise ApiError(403, "read_only", "this service does not change its index")
