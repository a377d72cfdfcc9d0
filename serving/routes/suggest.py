"""`GET /api/suggest`: what is typed -> what it could become."""

from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Response

from reelseek.ranking.suggestions import MAX_LETTERS
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
    suggestions = Suggestions()
    limiter = CapacityLimiter(_THREADS)

    @routes.get("/suggest", responses=_EXAMPLE, summary="Complete what is typed in a search box")
    async def suggest(
        prefix: Annotated[str, Query(description=f"Over {MAX_LETTERS} letters find nothing")] = "",
        k: Annotated[int, Query(ge=1, le=MAX_SUGGESTIONS)] = 8,
    ) -> Response:
        searcher = services.searcher
        found = await to_thread.run_sync(
            lambda: suggestions.suggest(searcher, prefix, k), limiter=limiter
        )
        body = msgspec.json.encode({"suggestions": [asdict(each) for each in found]})
        return Response(body, media_type="application/json")

    return routes
