"""Suggestions, what is told of a video, and more like it, over HTTP and a small index."""

import asyncio
import threading
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.suggestions import Suggester
from reelseek.serving import suggestions as suggestions_module
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client, RemoteError
from reelseek.serving.services import Services
from tests.indexing.small_index import D, ids_by_key, make_index, video_of
from tests.ranking.test_searcher import AXES, GivenEncoder


class FakeMedia:
    """A media process that has looked at one file."""

    def __init__(self):
        self.asked = []

    def call(self, name, value, *, timeout_seconds):
        self.asked.append((name, value.file.path))
        if value.file.path.endswith("gone.mp4"):
            raise RemoteError("MediaMissing", "its file is not there")
        return {"plays": True, "type": "video/mp4"}


@pytest.fixture
def service(tmp_path):
    make_index(
        tmp_path / "index",
        [
            video_of(
                "a/film.mp4", AXES[[0, 0, 1]], metadata={"title": "Beach film", "tags": ["sea"]}
            ),
            video_of("gone.mp4", AXES[[0]] + 0.1 * AXES[[2]], metadata={"date": "2020-05-01"}),
            video_of("one.mp4", AXES[[1]]),
        ],
    )
    config = compose(ServeConfig, [f"index={tmp_path / 'index'}"])
    services = Services(
        config=config,
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60),
        encoder=Client(tmp_path / "none"),
        media=FakeMedia(),
    )
    searcher = Searcher.open(tmp_path / "index", encoder=GivenEncoder(), refresh="manual")
    services.set_searcher(searcher)
    yield SimpleNamespace(
        services=services,
        searcher=searcher,
        app=create_app(services),
        folder=tmp_path / "index",
        ids=ids_by_key(searcher.reader),
    )
    services.recommendations.close()
    searcher.close()


def ask(service, *targets: str) -> list[httpx.Response]:
    async def run():
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get(target) for target in targets]

    return asyncio.run(run())


def test_what_the_index_holds_of_a_video(service):
    (response,) = ask(service, f"/api/videos/{service.ids['a/film.mp4']}")
    answer = response.json()
    assert answer.pop("request_id") == response.headers["x-request-id"]
    assert answer.pop("date").startswith("1970-01-01")
    assert answer == {
        "id": service.ids["a/film.mp4"],
        "video": "a/film.mp4",
        "duration_seconds": 6.0,
        "metadata": {"title": "Beach film", "tags": ["sea"]},
        "date_source": "file time",
        "segments": [[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]],
        "media": {"plays": True, "type": "video/mp4", "size_bytes": 10},
    }
    assert "/videos/a" not in response.text  # no path of this machine
    assert service.services.media.asked == [("probe", "/videos/a/film.mp4")]


def test_video_whose_file_is_gone_is_still_told_of(service):
    (response,) = ask(service, f"/api/videos/{service.ids['gone.mp4']}")
    assert (response.status_code, response.json()["date"]) == (200, "2020-05-01")
    media = {"plays": False, "type": "", "size_bytes": 10, "problem": "file_missing"}
    assert response.json()["media"] == media


@pytest.mark.parametrize("target", ["/api/videos/nobody", "/api/videos/nobody/related"])
def test_unknown_video_is_not_found(service, target):
    (response,) = ask(service, target)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_related_videos_are_like_it_and_not_itself(service):
    target = f"/api/videos/{service.ids['a/film.mp4']}/related"
    whole, stretch, one, again = ask(
        service, target, f"{target}?start_seconds=4&end_seconds=6", f"{target}?k=1", target
    )
    assert [hit["video"] for hit in whole.json()["hits"]] == ["gone.mp4", "one.mp4"]
    assert [hit["video"] for hit in stretch.json()["hits"]] == ["one.mp4", "gone.mp4"]
    assert again.headers["server-timing"].startswith("related;dur=")
    assert [hit["reasons"] for hit in whole.json()["hits"]] == [["looks alike"]] * 2
    cursor = one.json()["next_cursor"]
    (rest,) = ask(service, f"{target}?cursor={cursor}")
    assert [hit["video"] for hit in rest.json()["hits"]] == ["one.mp4"]
    assert [hit["rank"] for hit in rest.json()["hits"]] == [2]


@pytest.mark.parametrize(
    ("stretch", "status", "code"),
    [
        ("start_seconds=6", 422, "out_of_range"),
        ("start_seconds=3&end_seconds=3", 422, "out_of_range"),
        ("start_seconds=-1", 422, "invalid_request"),
        ("end_seconds=inf", 422, "invalid_request"),
        ("cursor=nonsense", 400, "invalid_request"),
        ("k=1000", 422, "invalid_request"),
    ],
)
def test_stretch_that_the_video_does_not_have(service, stretch, status, code):
    (response,) = ask(service, f"/api/videos/{service.ids['a/film.mp4']}/related?{stretch}")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def suggested(service, target):
    (response,) = ask(service, target)
    assert response.status_code == 200
    return response.json()["suggestions"]


def test_suggestions(service):
    assert suggested(service, "/api/suggest?prefix=bea") == [
        {"text": "Beach film", "kind": "title", "detail": ""}
    ]
    assert suggested(service, "/api/suggest?prefix=cat+%23&k=1") == [
        {"text": "cat #sea", "kind": "tag", "detail": "1 video"}
    ]
    assert suggested(service, "/api/suggest?prefix=") == []
    assert suggested(service, f"/api/suggest?prefix={'a' * 5000}") == []
    (response,) = ask(service, "/api/suggest?prefix=a&k=0")
    assert response.status_code == 422


def test_nothing_is_known_of_what_others_asked_where_nothing_was_built(service):
    assert suggested(service, "/api/suggest?after=beach") == []
    assert suggested(service, f"/api/suggest?after={'a' * 5000}") == []


def test_suggestions_follow_the_index(service, monkeypatch):
    monkeypatch.setattr(suggestions_module, "_MIN_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(suggestions_module, "_PAUSES", 0)
    assert suggested(service, "/api/suggest?prefix=holi") == []
    with IndexWriter(service.folder) as writer:
        writer.add(*video_of("new.mp4", np.eye(D)[:1], metadata={"title": "Holiday"}))
        writer.publish()
    assert service.searcher.refresh()
    made = threading.Event()
    of = Suggester.of.__func__

    def of_and_say(cls, reader, **options):
        try:
            return of(cls, reader, **options)
        finally:
            made.set()

    monkeypatch.setattr(Suggester, "of", classmethod(of_and_say))
    suggested(service, "/api/suggest?prefix=holi")  # may still come from the old state
    assert made.wait(timeout=60)
    for _ in range(100):
        if suggested(service, "/api/suggest?prefix=holi"):
            break
    assert suggested(service, "/api/suggest?prefix=holi")[0]["text"] == "Holiday"
