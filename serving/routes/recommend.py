"""`GET /api/videos/{id}/related` and `GET /api/for-you`: what may be watched next."""

import math
import re
import time
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec
import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response

from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.videos import VideoRecord
from reelseek.ranking.hits import SearchHit
from reelseek.ranking.query_parts import Similar
from reelseek.recommendation.events.log import EventsUnavailable
from reelseek.recommendation.feed.feed import FeedVideo
from reelseek.serving.answers import hit_fields, meaning_fields, with_request_id
from reelseek.serving.errors import ApiError
from reelseek.serving.personalizing import Personalization
from reelseek.serving.recommending import Recommendations, View, new_draws
from reelseek.serving.routes.search import response
from reelseek.serving.routes.videos import VideoId
from reelseek.serving.search_endpoint import SearchEndpoint
from reelseek.serving.search_request import EXAMPLE, MAX_HITS, Level, SearchRequest
from reelseek.serving.services import Services

_Seconds = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]
_MAX_FEED = 50
_SPARE = 4  # videos beyond k, in the place of those that were deleted since
_CURSOR = re.compile(r"related\.(\d{1,3})")
_MAX_PAGED = 400  # related videos of one

_HIT: dict[str, Any] = {
    **{"rank": 1, "id": "7h4iuog5w56v", "video": "holiday/beach.mp4", "score": 0.62},
    **{"start_seconds": 0.0, "end_seconds": 63.2, "best_seconds": 31.6, "duration_seconds": 63.2},
    **{"metadata": {"title": "At the beach"}, "confidence": None, "evidence": []},
    **{"date": "2024-07-31T12:00:00", "date_source": "creation_time", "also_as": []},
}
_FEED_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "request_id": "5f0c2a9d",
                    "hits": [
                        {
                            **_HIT,
                            "reasons": ["watched by people who watched the same"],
                            "propensity": 1.0,
                        }
                    ],
                    "generation": 3,
                    "model": 2,
                }
            }
        }
    },
    503: {"description": "The index or the events are still being read, or too many wait"},
}


class Threads:
    """A few threads, for which only so many requests may wait."""

    def __init__(self, num: int, max_waiting: int) -> None:
        self._limiter = CapacityLimiter(num)
        self._max_waiting = max_waiting

    async def run(self, work: Any) -> Any:
        if self._limiter.statistics().tasks_waiting >= self._max_waiting:
            raise ApiError(
                503, "busy", "too many requests wait; ask again later", retry_after_seconds=1
            )
        return await to_thread.run_sync(work, limiter=self._limiter)


def router(services: Services, endpoint: SearchEndpoint) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["recommendation"])
    recommendations = services.recommendations
    assert recommendations is not None
    config = services.config.recommend
    threads = Threads(config.threads, config.max_waiting)

    @routes.get(
        "/videos/{video_id}/related",
        responses=EXAMPLE,
        summary="Videos that belong to a video, or to a stretch of it",
        description="By what the same people watched and by content; each hit has its `reasons`. "
        "`level=moment` finds moments, by content alone.",
    )
    async def related(
        request: Request,
        video_id: VideoId,
        k: Annotated[int, Query(ge=1, le=MAX_HITS, description="Hits to return")] = 10,
        level: Annotated[Level, Query(description="Whole videos, or moments")] = "video",
        start_seconds: _Seconds = None,
        end_seconds: _Seconds = None,
        cursor: Annotated[str | None, Query(max_length=4000)] = None,
        explain: Annotated[bool, Query(description="Say what each score is made of")] = False,
        timeout_ms: Annotated[int | None, Query(ge=1, le=600_000)] = None,
    ) -> Response:
        started = time.perf_counter()
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        reader = services.searcher.reader
        paged = None if cursor is None else _CURSOR.fullmatch(cursor)
        if level == "video" and (cursor is None or paged is not None):
            first = 0 if paged is None else int(paged[1])

            def work() -> bytes | None:
                similar = _checked(reader.record(video_id), video_id, start_seconds, end_seconds)
                return _related_body(recommendations, similar, k, first, explain)

            body = await threads.run(work)
            if body is not None:
                return _answer(request, body, "related", started)
        record = await threads.run(lambda: reader.record(video_id))
        similar = _checked(record, video_id, start_seconds, end_seconds)
        asked = SearchRequest(similar=(similar,), k=k, level=level, cursor=cursor)
        answer, was_kept = await endpoint.answer(asked, deadline=deadline)
        return response(request, answer, was_kept=was_kept)

    @routes.get("/for-you", responses=_FEED_EXAMPLE, summary="A feed for a user")
    async def for_you(
        request: Request,
        user: Annotated[
            str,
            Query(max_length=128, description="Pseudonym of a user or session, as events have it"),
        ] = "",
        k: Annotated[int, Query(ge=1, le=_MAX_FEED, description="Hits to return")] = 20,
        explain: Annotated[bool, Query(description="Say what each score is made of")] = False,
    ) -> Response:
        started = time.perf_counter()
        services.searcher  # noqa: B018  # raises as long as there is none
        if not recommendations.is_possible:
            raise ApiError(404, "no_feed", "a service on a cluster has no feed")
        body = await threads.run(
            lambda: _feed_body(recommendations, services.personal, user, k, explain)
        )
        return _answer(request, body, "for_you", started)

    return routes


def _answer(request: Request, body: bytes, stage: str, started: float) -> Response:
    headers = {
        "Cache-Control": "private, no-store",
        "Server-Timing": f"{stage};dur={1000 * (time.perf_counter() - started):.2f}",
    }
    request_id = request.scope["state"]["request_id"]
    return Response(
        with_request_id(body, request_id), headers=headers, media_type="application/json"
    )


def _related_body(
    recommendations: Recommendations, similar: Similar, k: int, first: int, explain: bool
) -> bytes | None:
    """The answer without its request id; None where the video is not in the view yet."""
    view = recommendations.view() if recommendations.is_possible else None
    if view is None:
        return None
    row = view.catalogue.row_by_id.get(similar.id)
    if row is None:
        return None
    now = time.time()
    with suppress(EventsUnavailable):  # what is known goes on
        view = recommendations.up_to_date()
    row = view.catalogue.row_by_id.get(similar.id)
    if row is None:
        return None
    together = view.personal.together(similar.id, now_seconds=now)
    num = min(first + k + 1, _MAX_PAGED)
    is_whole = similar.start_seconds is None and similar.end_seconds is None
    asked = _embedding(view, row, similar)
    if asked is None:
        return None
    looks = None if is_whole else view.content.nearest_to(asked, max(100, 2 * num), level="moment")
    found = view.finder.find(row, num + _SPARE, together=together, looks=looks)
    records = view.catalogue.records(
        [each.row for each in found] + [d for each in found for d in each.duplicates]
    )
    live = [each for each in found if each.row in records]
    page = live[first : first + k]
    seconds = view.content.best_seconds({each.row: records[each.row] for each in page}, asked)
    hits = []
    for rank, each in enumerate(page, start=first + 1):
        fields = _fields(records[each.row], rank, round(each.score, 4), seconds.get(each.row))
        copies = [records[d] for d in each.duplicates if d in records]
        fields["also_as"] = [{"id": one.public_id, "video": one.key} for one in copies]
        fields["reasons"] = list(each.reasons)
        if explain:
            fields["parts"] = each.parts
        hits.append(fields)
    has_more = len(live) > first + k and first + k < _MAX_PAGED
    return msgspec.json.encode(
        {
            "query": meaning_fields("", None),
            "hits": hits,
            "why_empty": "" if hits else "the index holds nothing else",
            "next_cursor": f"related.{first + k}" if has_more else None,
            "generation": recommendations.generation,
            "shards": {"answered": 1, "of": 1},
            "model": view.version,
        }
    )


def _feed_body(
    recommendations: Recommendations,
    personalization: Personalization | None,
    user: str,
    k: int,
    explain: bool,
) -> bytes:
    try:
        view = recommendations.up_to_date()
    except EventsUnavailable as error:
        raise ApiError(
            503, "events_unavailable", "the events cannot be read", retry_after_seconds=5
        ) from error
    now = time.time()
    taste, seen = view.personal.user(user, now_seconds=now)
    found = view.feed.answer(
        taste,
        seen,
        k,
        now_seconds=now,
        rng=new_draws(),
        uses_models=not view.personal.state.lost_learned,
        personal=None
        if personalization is None or not personalization.is_on or not user
        else partial(personalization.of_rows, view.catalogue, view.content, user),
    )
    records = view.catalogue.records([each.row for each in found])
    hits: list[dict[str, Any]] = []
    for each in found:
        if each.row in records:
            fields = _fields(records[each.row], len(hits) + 1, each.score, None)
            hits.append({**fields, **_feed_fields(each, explain)})
    return msgspec.json.encode(
        {"hits": hits, "generation": recommendations.generation, "model": view.version}
    )


def _feed_fields(each: FeedVideo, explain: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"reasons": list(each.reasons), "propensity": each.propensity}
    if explain:
        fields["parts"] = each.parts
        fields["is_explored"] = each.is_explored
    return fields


def _embedding(view: View, row: int, similar: Similar) -> np.ndarray | None:
    """Of the video, or of the stretch; None where the video has been deleted since."""
    if similar.start_seconds is None and similar.end_seconds is None:
        (own,) = view.content.embeddings(np.array([row]))
        return own
    records = view.catalogue.records([row])
    if row not in records:
        return None
    shard = view.catalogue.shards[int(view.catalogue.shard_positions[row])]
    found = shard.snapshot.candidates({records[row].id: records[row]}, shard.snapshot.reads())
    return similar.embedding_in(found[0]) if found else None


def _fields(
    record: VideoRecord, rank: int, score: float, best_seconds: float | None
) -> dict[str, Any]:
    date, date_source = date_of(record.metadata, record.signature.modified_ns)
    middle = record.spans[len(record.spans) // 2].mean() if len(record.spans) else 0.0
    hit = SearchHit(
        rank=rank,
        id=record.public_id,
        video=record.path,
        score=score,
        start_seconds=0.0,
        end_seconds=record.duration_seconds,
        best_seconds=float(middle) if best_seconds is None else best_seconds,
        duration_seconds=record.duration_seconds,
        key=record.key,
        metadata=record.metadata,
        date=date,
        date_source=date_source,
    )
    return hit_fields(hit, explain=False)


def _checked(
    record: VideoRecord | None,
    video_id: str,
    start_seconds: float | None,
    end_seconds: float | None,
) -> Similar:
    """The stretch that is asked for; raises an ApiError where there is none."""
    if record is None:
        raise ApiError(404, "not_found", "no video has this id")
    start, end = start_seconds or 0.0, math.inf if end_seconds is None else end_seconds
    if not start < min(end, record.duration_seconds or math.inf):
        raise ApiError(
            422,
            "out_of_range",
            f"start_seconds={start:g}, end_seconds={end:g}: must be a stretch of the video, which "
            f"is {record.duration_seconds:.1f} s long",
        )
    return Similar(video_id, start_seconds, end_seconds)
