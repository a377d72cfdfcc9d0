"""The real application on an index of coloured videos, on a free port, for a browser."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing import IndexReader, IndexSettings, update_index
from reelseek.indexing.sources.collection import read_source
from reelseek.ranking.searcher import Searcher
from reelseek.recommendation.events.log import EventLog
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client, Server
from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.cutting import cut
from reelseek.serving.media.process import handlers
from reelseek.serving.media.requests import MediaRequest
from reelseek.serving.services import Services
from reelseek.vision import FrameEncoder, FrameSettings, IntervalSampler
from tests.conftest import COLOURS, InProcessPool, make_colour_model, write_colours

RED, GREEN, BLUE = COLOURS.values()
FPS = 5
# Each video's colours by the second, and what its collection says of it.
VIDEOS = {
    "film.mp4": (
        [RED] * 8 + [GREEN] * 8 + [BLUE] * 8,
        {"title": "Three colours", "tags": ["film"]},
    ),
    "wall.mp4": ([GREEN] * 8, {"title": "A green wall <img src=x onerror=alert(1)>"}),
    "sky.mp4": ([BLUE] * 8, {"title": "A blue sky", "tags": ["sky"]}),
    "door.mp4": ([RED] * 8, {"title": "A red door"}),
    "old.ts": ([BLUE] * 8 + [RED] * 8, {"title": "An old tape"}),
}
INDEXING = {
    **{"state": "running", "done": 2, "total": 5, "failed": 1},
    **{"seconds_left": 200.0, "video": "film.mp4", "reason": ""},
}
# Stricter than what the service sends: no blob:, no data:.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def make_index(folder: Path) -> Path:
    """Writes the videos and indexes them."""
    lines = []
    for name, (seconds, metadata) in VIDEOS.items():
        frames = [colour for colour in seconds for _ in range(FPS)]
        path = write_colours(folder / "videos" / name, frames, fps=FPS, size=(128, 96))
        lines.append(json.dumps({"video": str(path), **metadata}))
    broken = folder / "videos" / "broken.mp4"
    broken.write_bytes(b"this is no video")
    lines.append(json.dumps({"video": str(broken)}))
    listed = folder / "videos.jsonl"
    listed.write_text("\n".join(lines))
    model = make_colour_model()
    settings = IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=model.fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5},
        segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 2.0},
    )
    update_index(
        folder / "index",
        [read_source(str(listed))],
        settings=settings,
        encoder=FrameEncoder(model, device="cpu", precision="fp32"),
        pool=InProcessPool(FrameSettings(IntervalSampler(0.5), model.preprocessing)),
        show_progress=False,
    )
    return folder / "index"


class WithPolicy:
    """Sends the content security policy with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", POLICY)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_policy)


class CutsHere:
    """In the place of a `CutPool`: cuts in this process, since these files are known to be good."""

    def run(self, request: MediaRequest, *, timeout_seconds: float) -> Any:
        return cut(request)


def listen(name: str, folder: Path, answers: dict[str, Any]) -> Client:
    """Answers as another process of the service would."""
    path = folder / name
    threading.Thread(target=Server(path, answers).serve_forever, daemon=True).start()
    return Client(path)


@contextmanager
def serve(index: Path, *, events: Path | None = None) -> Iterator[str]:
    """Serves an index, and keeps events in a folder where one is named; yields the address."""
    searcher = Searcher(IndexReader(index), make_colour_model(), device="cpu")
    cutter = MediaCutter(
        MediaCache(index.parent / "cache", max_bytes=1 << 30), CutsHere(), CutsHere()
    )
    folder = index.parent
    options = [f"index={index}", f"cache={folder / 'cache'}"]
    services = Services(
        config=compose(ServeConfig, options + ([f"events={events}"] if events else [])),
        events=None if events is None else EventLog(events),
        admission=Admission(num_running=1, max_waiting=50, max_wait_seconds=10),
        encoder=listen(
            "encoder",
            folder,
            {"upload": lambda file: searcher.encoder.encode(Path(file[0])).tobytes()},
        ),
        media=listen("media", folder, handlers(cutter)),
        library=listen(
            "library", folder, {"status": lambda _: {"indexing": INDEXING, "watching": ["Videos"]}}
        ),
        upload_folder=folder,
    )
    services.set_searcher(searcher)
    try:
        with run(WithPolicy(create_app(services))) as address:
            yield address
    finally:
        if services.recommendations is not None:
            services.recommendations.close()
        searcher.close()
        if services.events is not None:
            services.events.close()


@contextmanager
def serve_locked(folder: Path, token: str) -> Iterator[str]:
    """Runs a service that needs a token and has nothing to search; yields the address."""
    services = Services(
        config=compose(ServeConfig, [f"index={folder}", f"token={token}"]),
        admission=Admission(num_running=1, max_waiting=1, max_wait_seconds=1),
        encoder=Client(folder / "none"),
    )
    with run(create_app(services)) as address:
        yield address


@contextmanager
def run(app: ASGIApp) -> Iterator[str]:
    """Answers on a free port in a thread; yields the address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
