"""`POST` and `DELETE /api/events`: what users do, kept and forgotten."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from reelseek.recommendation.events import schema
from reelseek.recommendation.events.log import EventLog, EventsUnavailable, EventsUnreachable
from reelseek.serving.errors import ApiError
from reelseek.serving.security import require_write_token
from reelseek.serving.services import Services

logger = logging.getLogger(__name__)

_STORE_SECONDS = 30.0
_RETRY_SECONDS = 5  # which a failover takes

_T = TypeVar("_T")

_EXAMPLE = {
    "events": [
        {
            **{"kind": "impression", "event_id": "0c6c6ee2-3a0f-4c5e-a4a5-2f6f1f1d2f80"},
            **{"time_seconds": 1767225600.25, "session": "s-7f3a", "request_id": "9f1c2d3e"},
            **{"video": "k3v9q2m1x8ab", "start_seconds": 12.0, "end_seconds": 18.5, "position": 1},
        }
    ]
}


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["events"])
    deletions = ThreadPoolExecutor(1, thread_name_prefix="events")

    @routes.post(
        "/events",
        summary="Keep what users did",
        responses={
            200: {"content": {"application/json": {"example": {"accepted": 1, "duplicates": 0}}}},
            **_described({400: "an event is not as it should be; none was stored"}),
            **_described({404: "this service keeps no events", 413: "too many or too large"}),
            **_described({503: "not acknowledged, as no replica has them; send them again"}),
            **_described({507: "none was stored; send them again later"}),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _json_schema(), "example": _EXAMPLE}},
            }
        },
    )
    async def post_events(request: Request) -> Response:
        log = _log_of(services)
        body = await request.body()  # `BodyLimits` bounds it
        try:
            events = schema.parse_events(body, now_seconds=time.time())
        except schema.TooManyEvents as error:
            raise ApiError(413, "too_many_events", str(error)) from error
        except schema.InvalidEvents as error:
            raise ApiError(400, "invalid_events", str(error)) from error
        appended = await _or_unavailable(lambda: log.submit(events), "stored")
        return _json(msgspec.to_builtins(appended))

    @routes.delete(
        "/events",
        summary="Forget a user",
        dependencies=[Depends(require_write_token(services))],
        responses={
            200: {"content": {"application/json": {"example": {"deleted": 42}}}},
            **_described({403: "needs the token to write", 404: "this service keeps no events"}),
            **_described({503: "the log's server is away", 507: "something is left; ask again"}),
        },
    )
    async def delete_events(
        user: Annotated[
            str, Query(min_length=1, max_length=128, description="Pseudonym of a user or session")
        ],
    ) -> Response:
        log = _log_of(services)
        deleted = await _or_unavailable(lambda: deletions.submit(log.delete_user, user), "deleted")
        return _json({"deleted": deleted})

    return routes


def _log_of(services: Services) -> EventLog:
    if services.events is None:
        raise ApiError(404, "events_off", "this service keeps no events; events=DIR switches it on")
    return services.events


async def _or_unavailable(
    start: Callable[[], Future[_T]], done: Literal["stored", "deleted"]
) -> _T:
    """Waits for a future, and does not cancel it: what was begun may still happen, which is
    harmless, as ids are stored once."""
    seconds = _STORE_SECONDS if done == "stored" else None
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(start())), seconds)
    except (EventsUnavailable, asyncio.TimeoutError) as error:
        reason = str(error) or "no answer in time"
        logger.warning(f"events not {done}", extra={"fields": {"reason": reason}})
        if isinstance(error, EventsUnreachable):
            message = f"not {done}: the log's server or its replica is away; send the same again"
            raise ApiError(
                503, f"events_not_{done}", message, retry_after_seconds=_RETRY_SECONDS
            ) from error
        message = f"not {done}: the server's disk is full, damaged or slow; send the same again"
        raise ApiError(507, f"events_not_{done}", message) from error


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _described(responses: dict[int | str, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": text} for status, text in responses.items()}


def _json_schema() -> dict[str, Any]:
    """The schema of a request without references, which would point outside of it in OpenAPI."""
    whole = msgspec.json.schema(schema.Request)
    parts = whole.pop("$defs")

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inlined(parts[node["$ref"].rpartition("/")[2]])
        return {key: inlined(value) for key, value in node.items() if key != "discriminator"}

    return inlined(whole)
