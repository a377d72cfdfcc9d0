"""The endpoints, over the library process's socket."""

import threading
from contextlib import closing

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.manifest import Manifest
from reelseek.serving.app import _api_error
from reelseek.serving.channel import Client, Server
from reelseek.serving.errors import ApiError
from reelseek.serving.library.process import handlers
from reelseek.serving.library.report import IndexReport, IndexReports
from reelseek.serving.library.state import StateToken
from reelseek.serving.routes import library as route
from tests.indexing.small_index import SETTINGS
from tests.serving.library.conftest import wait_until
from tests.serving.library.test_library import ALL, is_idle, keys


class Services:
    def __init__(self, config, library):
        self.config, self.library, self.personal = config, library, None


@pytest.fixture
def connect(start, colour_index, tmp_path):
    """An HTTP client of a library over some folders."""

    def connect_to(*videos, may_write=lambda: None, library=None):
        library = library or start(*videos)
        server = Server(tmp_path / "socket", handlers(library))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = type("Config", (), {"index": str(colour_index.folder)})()
        app = FastAPI()
        services = Services(config, Client(tmp_path / "socket"))
        app.include_router(route.router(services, may_write=may_write))
        app.add_exception_handler(ApiError, _api_error)
        return TestClient(app), library

    return connect_to


@pytest.fixture
def idle(connect, videos, colour_index):
    """A client, once all is indexed."""
    client, library = connect(videos)
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    return client


def public_id(index, key):
    with closing(Catalogue(index.folder / "videos.sqlite", read_only=True)) as catalogue:
        return next(record.public_id for record in catalogue.scan() if record.key == key)


def test_writes_answer_with_tokens_that_grow(idle, colour_index):
    id = public_id(colour_index, "red.mp4")
    changed = idle.patch(f"/api/videos/{id}", json={"metadata": {"title": "Red"}})
    assert (changed.status_code, changed.json()["metadata"]) == (200, {"title": "Red"})
    deleted = idle.delete(f"/api/videos/{id}")
    assert (deleted.status_code, deleted.json()["id"]) == (200, id)
    added = idle.post("/api/videos", json={"videos": ["red.mp4"]})
    assert added.status_code == 200
    assert added.json()["videos"][0]["outcome"] == "ok"
    before, between, after = (
        StateToken.parse(answer.json()["token"]) for answer in (changed, deleted, added)
    )
    assert before.generation < between.generation < after.generation


def test_errors_have_codes(idle, videos):
    gone = idle.delete("/api/videos/nobody")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")
    outside = idle.post("/api/videos", json={"videos": ["../red.mp4"]})
    assert (outside.status_code, outside.json()["error"]["code"]) == (400, "invalid_request")
    missing = idle.post("/api/videos", json={"videos": ["none.mp4"]})
    assert missing.status_code == 404
    assert str(videos) not in missing.text
    assert idle.post("/api/videos", json={"videos": []}).status_code == 422
    wrong = idle.patch("/api/videos/abc", json={"metadata": {"title": 3}})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_request")


def test_status_tells_what_failed_and_names_no_path(idle, videos, colour_index, tmp_path):
    (videos / "broken.mp4").write_bytes(b"no video at all")
    status = wait_until(lambda: (s := idle.get("/api/status").json())["failures"] and s)
    assert status["failures"][0]["video"] == "broken.mp4"
    assert status["failures"][0]["reason"]
    assert (status["videos"], status["watching"], status["num_failed"]) == (3, ["films"], 1)
    assert status["name"] == colour_index.folder.name
    assert set(status["indexing"]) >= {"state", "done", "total", "failed", "seconds_left"}
    assert str(tmp_path) not in idle.get("/api/status").text


def test_failed_run_is_shown_without_paths(connect, colour_index, tmp_path):
    gone = tmp_path / "films that are away"
    client, _ = connect(gone)
    status = wait_until(
        lambda: (s := client.get("/api/status").json())["indexing"]["reason"] and s["indexing"]
    )
    assert status["state"] == "failed"
    assert "films that are away: no such file or folder" in status["reason"]
    assert str(tmp_path) not in status["reason"]


def test_an_index_that_is_only_being_made_is_empty(tmp_path):
    """Its catalogue is a file without tables for a moment."""
    Manifest(SETTINGS).write(tmp_path)
    (tmp_path / CATALOGUE_NAME).touch()
    assert IndexReports(tmp_path).read() == IndexReport()
    Manifest(SETTINGS, generation=1).write(tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        IndexReports(tmp_path).read()


def test_nobody_writes_without_leave(connect, videos):
    client, _ = connect(videos, may_write=None)
    for answer in (
        client.post("/api/videos", json={"videos": ["red.mp4"]}),
        client.patch("/api/videos/a", json={"metadata": {}}),
        client.delete("/api/videos/a"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")
