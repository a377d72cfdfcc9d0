"""Endpoints in the place of those that are not there yet."""

from fastapi import APIRouter

from reelseek.ranking.query_parts import Similar
from reelseek.serving.answers import hit_fields
from reelseek.serving.errors import ApiError
from reelseek.serving.media.client import MediaClient
from reelseek.serving.media.requests import MediaFile, Probe
from reelseek.serving.services import Services


def doubles(services: Services) -> APIRouter:
    routes = APIRouter(prefix="/api")
    searcher = services.searcher

    @routes.get("/suggest")
    def suggest(prefix: str, k: int = 8):
        titles = [hit.metadata["title"] for hit in searcher.search("red", k=100)]
        found = [title for title in titles if title.lower().startswith(prefix.lower())]
        return {"suggestions": [{"text": each, "kind": "title", "detail": ""} for each in found]}

    @routes.get("/videos/{id}")
    def record(id: str):
        record = searcher.reader.record(id)
        if record is None:
            raise ApiError(404, "not_found", "there is no such video")
        media = MediaClient(services.media).probe(Probe(MediaFile.of(record)))
        (hit,) = [hit for hit in searcher.search("red", k=100) if hit.id == id]
        return {
            **{"id": id, "video": record.key, "duration_seconds": record.duration_seconds},
            **{"metadata": hit.metadata, "date": hit.date, "segments": [], "media": media},
        }

    @routes.get("/videos/{id}/related")
    def related(id: str, k: int = 6):
        return {"hits": [hit_fields(hit) for hit in searcher.search(Similar(id), k=k)]}

    return routes
