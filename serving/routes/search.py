"""`GET /api/search`: a sentence -> hits."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from reelseek.ranking.searcher import Searcher
from reelseek.serving import telemetry
from reelseek.serving.admission import deadline_exceeded
from reelseek.serving.answers import body_without_id, meaning_fields, with_request_id
from reelseek.serving.cache import BoundedCache
from reelseek.serving.errors import ApiError
from reelseek.serving.services import Services

MAX_QUERY_LETTERS = 2000
MAX_HITS = 200

Level = Literal["video", "moment"]


@dataclass(frozen=True)
class SearchRequest:
    """All that an answer depends on, beside the state of the index."""

    q: str
    k: int
    level: Level
    where: str | None
    min_confidence: float
    sources: tuple[str, ...]
    analyze: bool


@dataclass(frozen=True)
class Answer:
    """An answer that may be kept.

    Attributes:
        body: without the request id.
        etag: of the body.
        stage_seconds: what it took when it was worked out.
    """

    body: bytes
    etag: str
    stage_seconds: dict[str, float]


class SearchEndpoint:
    """Answers searches: from the cache, or in a thread when their turn has come."""

    def __init__(self, services: Services) -> None:
        self._services = services
        threads = services.config.threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._answers: BoundedCache[Answer] = BoundedCache(int(services.config.cache_mb * 2**20))
        self._in_hand: dict[Any, asyncio.Future[Answer]] = {}

    async def answer(
        self,
        asked: SearchRequest,
        work: Callable[[Searcher], Answer],
        *,
        deadline: float | None,
    ) -> tuple[Answer, bool]:
        """Returns the answer, and whether it was kept from before."""
        searcher = self._services.searcher
        key = (searcher.generation, searcher.revision, asked)
        known = self._answers.get(key)
        telemetry.CACHE.labels("answers", "miss" if known is None else "hit").inc()
        if known is not None:
            return known, True
        running = self._in_hand.get(key)
        if running is None:  # nobody else waits for the same answer
            running = asyncio.ensure_future(self._work_out(lambda: work(searcher), deadline))
            if deadline is None:  # or it might end for others who have more time
                self._in_hand[key] = running
            running.add_done_callback(lambda done: self._keep(key, done))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait([running], timeout=left)
        if not done:
            raise deadline_exceeded()
        return running.result(), False

    async def _work_out(self, work: Callable[[], Answer], deadline: float | None) -> Answer:
        # A search that has begun is not given up: it holds its turn, and its answer is kept.
        async with self._services.admission.enter(deadline=deadline):
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _keep(self, key: Any, done: "asyncio.Future[Answer]") -> None:
        if self._in_hand.get(key) is done:
            del self._in_hand[key]
        if not done.cancelled() and done.exception() is None:
            answer = done.result()
            self._answers.put(key, answer, size_bytes=len(answer.body))


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["search"])
    endpoint = SearchEndpoint(services)

    @routes.get("/search", summary="Find videos, or the seconds in them, by a sentence")
    async def search(
        request: Request,
        q: Annotated[str, Query(description="A sentence", examples=["a dog catches a frisbee"])],
        k: Annotated[int, Query(ge=1, le=MAX_HITS, description="Hits to return")] = 10,
        level: Annotated[Level, Query(description="Whole videos, or moments")] = "video",
        where: Annotated[
            str | None, Query(max_length=2000, examples=["duration < 60 and tag = 'cat'"])
        ] = None,
        min_confidence: Annotated[float, Query(ge=0, le=1)] = 0.0,
        sources: Annotated[str | None, Query(description="visual, lexical or both")] = None,
        analyze: Annotated[bool, Query(description="Find filters, negations, ...")] = True,
        timeout_ms: Annotated[int | None, Query(ge=1, le=600_000)] = None,
    ) -> Response:
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        chosen = tuple(sorted(set(sources.split(",")))) if sources else ()
        if len(q) > MAX_QUERY_LETTERS:
            raise ApiError(413, "query_too_long", f"q has over {MAX_QUERY_LETTERS} letters")
        asked = SearchRequest(q, k, level, where, min_confidence, chosen, analyze)
        answer, was_kept = await endpoint.answer(
            asked, lambda searcher: search_answer(searcher, asked), deadline=deadline
        )
        return respond(request, answer, was_kept=was_kept)

    return routes


def search_answer(searcher: Searcher, asked: SearchRequest) -> Answer:
    """Searches, and writes the answer; runs in a thread."""
    started = time.perf_counter()
    try:
        results = searcher.search(
            asked.q,
            k=asked.k,
            level=asked.level,
            where=asked.where,
            min_confidence=asked.min_confidence,
            sources=asked.sources or None,
            analyze=asked.analyze,
        )
    except ValueError as error:
        raise ApiError(400, "invalid_request", str(error)) from error
    query = meaning_fields(asked.q, results.meaning)
    body = body_without_id(
        results, query=query, generation=results.generation, further={"next_cursor": None}
    )
    stages = {**results.stage_seconds, "total": time.perf_counter() - started}
    for stage, seconds in stages.items():
        telemetry.STAGE_SECONDS.labels(stage).observe(seconds)
    etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
    return Answer(body, etag, stages)


def respond(request: Request, answer: Answer, *, was_kept: bool) -> Response:
    """The answer with its headers; 304 where the caller has it."""
    timing = [f"{name};dur={1000 * seconds:.2f}" for name, seconds in answer.stage_seconds.items()]
    headers = {
        "ETag": answer.etag,
        "Cache-Control": "private, no-cache",
        "Server-Timing": "cache" if was_kept else ", ".join(timing),
    }
    if request.headers.get("if-none-match") == answer.etag:
        return Response(status_code=304, headers=headers)
    request_id = request.scope["state"]["request_id"]
    return Response(
        with_request_id(answer.body, request_id), headers=headers, media_type="application/json"
    )
