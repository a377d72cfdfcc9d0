"""`GET /api/suggest`: what is typed -> what it could become."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Response

from reelseek.configs.schema import ServeConfig
from reelseek.ranking.suggestions import MAX_LETTERS
from reelseek.recommendation.completion.model_files import DEFAULT_FOLDER
from reelseek.recommendation.redis_server import is_redis
from reelseek.serving.services import Services
from reelseek.serving.suggestions import Suggestions

MAX_SUGGESTIONS = 50
_THREADS = 2  # of its own: whoever types does not wait for searches

_EXAMPLE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "suggestions": [
                        {"text": "a dog on a tag:beach", "kind": "tag", "detail": "12 videos"}
                    ]
                }
            }
        }
    }
}


def router(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api", tags=["search"])
    suggestions = Suggestions(_completion_folder(services.config), services.events)
    limiter = CapacityLimiter(_THREADS)

    @routes.get("/suggest", responses=_EXAMPLE, summary="Complete what is typed in a search box")
    async def suggest(
        prefix: Annotated[str, Query(description=f"Over {MAX_LETTERS} letters find nothing")] = "",
        after: Annotated[
            str, Query(description="A query: what people search next, where `prefix` is empty")
        ] = "",
        k: Annotated[int, Query(ge=1, le=MAX_SUGGESTIONS)] = 8,
    ) -> Response:
        searcher = services.searcher
        asks_next = bool(after) and not prefix and len(after) <= MAX_LETTERS
        found = await to_thread.run_sync(
            lambda: (
                suggestions.after(after, k)
                if asks_next
                else suggestions.suggest(searcher, prefix, k)
            ),
            limiter=limiter,
        )
        body = msgspec.json.encode({"suggestions": [asdict(each) for each in found]})
        return Response(body, media_type="application/json")

    return routes


def _completion_folder(config: ServeConfig) -> Path | None:
    """Where past queries come from, if they do."""
    if config.completion is not None:
        return Path(config.completion)
    if config.events is None or is_redis(config.events):
        return None
    return Path(config.events) / DEFAULT_FOLDER
