"""Endpoints in the place of those that are not there yet."""

import io
import tempfile
from pathlib import Path

import av
from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from PIL import Image

from reelseek.serving.answers import hit_fields
from reelseek.serving.errors import ApiError
from reelseek.vision.clips import write_clip


def doubles(searcher, folder: Path) -> APIRouter:
    routes = APIRouter()
    hits = {hit.id: hit for hit in searcher.search("red", k=100)}

    def one(id):
        if id not in hits:
            raise ApiError(404, "not_found", "there is no such video")
        return hits[id]

    def answer(found):
        return {
            "request_id": "r", "query": {"text": "", "sentence": ""}, "hits": [hit_fields(h) for h in found],
            "why_empty": found.why_empty, "next_cursor": None, "generation": 1,
        }

    @routes.post("/api/search")
    async def search(request: Request):
        form = await request.form()
        parts = [Image.open(io.BytesIO(await each.read())) for each in form.getlist("image")]
        if form.get("q"):
            parts.append(form["q"])
        return answer(searcher.search(parts, k=int(form["k"]), level=form.get("level", "video")))

    @routes.get("/api/suggest")
    async def suggest(prefix: str, k: int = 8):
        titles = [hit.metadata["title"] for hit in hits.values()]
        found = [{"text": t, "kind": "title", "detail": ""} for t in titles if t.lower().startswith(prefix.lower())]
        if "tag:".startswith(prefix.split()[-1]):
            found.append({"text": prefix[: -len(prefix.split()[-1])] + "tag:", "kind": "operator", "detail": "with a tag"})
        return {"suggestions": found}

    @routes.get("/api/videos/{id}")
    async def record(id: str):
        hit = one(id)
        return {
            "id": id, "video": hit.key, "duration_seconds": hit.duration_seconds, "metadata": hit.metadata, "date": hit.date,
            "segments": [], "media": {"plays": hit.key.endswith(".mp4"), "type": "video/mp4", "size_bytes": 1},
        }

    @routes.get("/api/videos/{id}/related")
    async def related(id: str, k: int = 6):
        return answer(searcher.search(Path(one(id).video), k=k))

    @routes.get("/api/videos/{id}/media")
    async def media(id: str):
        return FileResponse(one(id).video)

    @routes.get("/api/videos/{id}/clip")
    def clip(id: str, start: float, end: float):
        path = Path(tempfile.mkdtemp(dir=folder)) / "clip.mp4"
        write_clip(Path(one(id).video), path, start_seconds=start, end_seconds=end)
        return FileResponse(path)

    @routes.get("/api/videos/{id}/thumbnail")
    def thumbnail(id: str, at: float, width: int = 320):
        with av.open(one(id).video) as container:
            for frame in container.decode(video=0):
                if frame.time >= at - 0.2:
                    break
            buffer = io.BytesIO()
            frame.to_image().save(buffer, "JPEG")
        return Response(buffer.getvalue(), media_type="image/jpeg")

    @routes.get("/api/status")
    async def status():
        return {
            "videos": len(hits), "segments": 20, "generation": 1,
            "indexing": {"state": "running", "done": 2, "total": 5, "failed": 1, "seconds_left": 200},
            "failures": [{"video": "broken.mp4", "reason": "no video stream"}], "missing": ["gone.mp4"], "watching": ["Videos"],
        }

    return routes
