"""`/api/search`: a sentence, pictures, or what the index holds -> hits."""

import hashlib
import time
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from reelseek.ranking.cursor import Cursor
from reelseek.ranking.score_units import score_unit
from reelseek.ranking.searcher import Searcher
from reelseek.serving import telemetry
from reelseek.serving.answers import (
    Answer,
    body_without_id,
    meaning_fields,
    strip_fields,
    with_request_id,
)
from reelseek.serving.errors import ApiError
from reelseek.serving.search_body import read_post
from reelseek.serving.search_endpoint import SearchEndpoint
from reelseek.serving.search_request import (
    EXAMPLE,
    MAX_HITS,
    JsonQuery,
    Level,
    SearchRequest,
    liked,
)
from reelseek.serving.services import Services

_Cursor = Annotated[str | None, Query(max_length=4000, description="`next_cursor` of a page")]
_User = Annotated[
    str, Query(max_length=128, description="Pseudonym, by which hits of like relevance are ordered")
]
_Where = Annotated[str | None, Query(max_length=2000, examples=["duration < 60 and tag = 'cat'"])]


def router(services: Services, endpoint: SearchEndpoint) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["search"])

    async def respond(
        request: Request, asked: SearchRequest, *, deadline: float | None, user: str
    ) -> Response:
        answer, was_kept = await endpoint.answer(asked, deadline=deadline)
        if user and services.personal is not None and services.personal.is_on:
            answer = await to_thread.run_sync(services.personal.ordered, answer, user)
        return response(request, answer, was_kept=was_kept)

    @routes.get("/search", responses=EXAMPLE, summary="Find videos, or the seconds in them")
    async def search(
        request: Request,
        q: Annotated[str, Query(description="A sentence", examples=["a dog on a beach"])] = "",
        k: Annotated[int, Query(ge=1, le=MAX_HITS, description="Hits to return")] = 10,
        level: Annotated[Level, Query(description="Whole videos, or moments")] = "video",
        where: _Where = None,
        min_confidence: Annotated[float, Query(ge=0, le=1)] = 0.0,
        sources: Annotated[str | None, Query(description="visual, lexical or both")] = None,
        analyze: Annotated[bool, Query(description="Find filters, negations, order")] = True,
        explain: Annotated[bool, Query(description="Say what put each hit there")] = True,
        strip: Annotated[bool, Query(description="How well every part of a hit matches")] = False,
        like: Annotated[
            list[str] | None, Query(description="ID, or ID@START-END in seconds", max_length=8)
        ] = None,
        cursor: _Cursor = None,
        timeout_ms: Annotated[int | None, Query(ge=1, le=600_000)] = None,
        after: Annotated[str | None, Query(description="the token of a write to be seen")] = None,
        user: _User = "",
    ) -> Response:
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        await endpoint.wait_for_state(after, deadline)
        asked = SearchRequest(
            text=q,
            similar=tuple(liked(each) for each in like or ()),
            k=k,
            level=level,
            where=where,
            min_confidence=min_confidence,
            sources=sources,
            analyze=analyze,
            explain=explain,
            strip=strip,
            cursor=cursor,
        )
        return await respond(request, asked, deadline=deadline, user=user)

    @routes.post(
        "/search",
        responses=EXAMPLE,
        summary="Find by pictures, videos, and several parts with weights",
        openapi_extra={"requestBody": JsonQuery.openapi()},
    )
    async def search_by_parts(request: Request, user: _User = "") -> Response:
        asked, timeout_ms = await read_post(request, services)
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        return await respond(request, asked, deadline=deadline, user=user)

    return routes


def search_answer(searcher: Searcher, asked: SearchRequest) -> Answer:
    """Searches, and writes the answer; runs in a thread."""
    started = time.perf_counter()
    try:
        with searcher.reader.one_generation():  # of which the strips and the unit are, too
            results = searcher.search(
                asked.query,
                k=asked.k,
                level=asked.level,
                where=asked.where,
                min_confidence=asked.min_confidence,
                sources=asked.chosen_sources,
                analyze=asked.analyze,
                after=None if asked.cursor is None else Cursor.parse(asked.cursor),
            )
            strips = strip_fields(searcher, results) if asked.strip and results else {}
            unit = score_unit(searcher, results, level=asked.level)
    except ValueError as error:
        raise ApiError(400, "invalid_request", str(error)) from error
    body = body_without_id(
        results,
        query=meaning_fields(asked.text, results.meaning),
        strips=strips,
        explain=asked.explain,
    )
    stages = {**results.stage_seconds, "total": time.perf_counter() - started}
    for stage, seconds in stages.items():
        telemetry.STAGE_SECONDS.labels(stage).observe(seconds)
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    answered, of = results.shards_answered
    return Answer(
        body,
        etag,
        stages,
        is_complete=answered == of,
        score_unit=unit,
    )


def response(request: Request, answer: Answer, *, was_kept: bool) -> Response:
    """The answer with its headers; 304 where the caller has it."""
    timing = [f"{name};dur={1000 * seconds:.2f}" for name, seconds in answer.stage_seconds.items()]
    headers = {
        "ETag": answer.etag,
        "Cache-Control": "private, no-cache",
        "Server-Timing": "cache" if was_kept else ", ".join(timing),
    }
    if request.method == "GET" and request.headers.get("if-none-match") == answer.etag:
        return Response(status_code=304, headers=headers)
    request_id = request.scope["state"]["request_id"]
    return Response(
        with_request_id(answer.body, request_id), headers=headers, media_type="application/json"
    )
