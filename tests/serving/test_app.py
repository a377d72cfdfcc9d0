"""Errors in one form, request ids, ETags, what is kept and when it is not, deadlines."""

import asyncio
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import httpx
import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.ranking.hits import SearchHit, SearchResults
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.services import Services

HIT = SearchHit(1, "abc", "/secret/root/a.mp4", 0.5, 0.0, 4.0, 2.0, 9.0, "a.mp4", {"title": "A"})


class FakeSearcher:
    """Answers with one hit, and notes what it is asked."""

    reader = SimpleNamespace(one_generation=nullcontext)
    shards_answered = 1, 1

    def __init__(self) -> None:
        self.generation, self.revision = 1, 1
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def search(self, query, **options):
        self.asked.append(query)
        self.may_answer.wait()
        if query == "bad":
            raise ValueError("where='x': cannot be read")
        if query == "crash":
            raise RuntimeError("/secret/root is broken")
        return SearchResults(
            [HIT],
            generation=self.generation,
            stage_seconds={"encoding": 0.004},
            shards_answered=self.shards_answered,
        )


@pytest.fixture
def service(tmp_path):
    config = compose(ServeConfig, ["index=i", "max_waiting=0"])
    admission = Admission(num_running=1, max_waiting=0, max_wait_seconds=1)
    services = Services(config=config, admission=admission, encoder=Client(tmp_path / "none"))
    searcher = FakeSearcher()
    services.set_searcher(searcher)
    return SimpleNamespace(services=services, searcher=searcher, app=create_app(services))


def ask(service, *targets: str, headers=None) -> list[httpx.Response]:
    async def run():
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [await client.get(target, headers=headers) for target in targets]

    return asyncio.run(run())


def error_of(response: httpx.Response) -> tuple[int, str]:
    assert set(response.json()) == {"error"}
    assert "secret" not in response.text
    return response.status_code, response.json()["error"]["code"]


def test_hits_name_no_path(service):
    (response,) = ask(service, "/api/search?q=a+cat")
    answer = response.json()
    assert answer["hits"][0]["video"] == "a.mp4"
    assert answer["shards"] == {"answered": 1, "of": 1}
    assert answer["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
    assert response.headers["server-timing"].startswith("encoding;dur=4.00, total;dur=")


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/search", 422, "invalid_request"),
        ("/api/search?q=a&k=0", 422, "invalid_request"),
        ("/api/search?q=a&level=frame", 422, "invalid_request"),
        ("/api/search?q=bad", 400, "invalid_request"),
        (f"/api/search?q={'a' * 2001}", 413, "query_too_long"),
        ("/api/search?q=crash", 500, "internal_error"),
        ("/nothing", 404, "not_found"),
    ],
)
def test_errors(service, target, status, code):
    (response,) = ask(service, target)
    assert error_of(response) == (status, code)
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_not_ready(service):
    service.services._searcher = None
    for response in ask(service, "/readyz", "/api/search?q=a"):
        assert error_of(response) == (503, "not_ready")
        assert response.headers["retry-after"] == "2"
    (alive,) = ask(service, "/healthz")
    assert alive.status_code == 200


@pytest.mark.parametrize(
    ("sent", "is_kept"), [("my-id_1.2", True), ("a b", False), ("x" * 65, False)]
)
def test_request_ids(service, sent, is_kept):
    (response,) = ask(service, "/api/search?q=a", headers={"X-Request-ID": sent})
    assert (response.headers["x-request-id"] == sent) == is_kept
    assert response.json()["request_id"] == response.headers["x-request-id"]


def test_an_answer_is_kept_until_the_index_changes(service):
    first, second = ask(service, "/api/search?q=a", "/api/search?q=a")
    assert service.searcher.asked == ["a"]
    assert second.headers["server-timing"] == "cache"
    assert first.json()["hits"] == second.json()["hits"]
    assert first.json()["request_id"] != second.json()["request_id"]
    service.searcher.revision = 2  # something was deleted
    ask(service, "/api/search?q=a")
    service.searcher.generation = 2
    ask(service, "/api/search?q=a")
    ask(service, "/api/search?q=a&k=5")
    assert service.searcher.asked == ["a"] * 4


def test_etag(service):
    (first,) = ask(service, "/api/search?q=a")
    (same,) = ask(service, "/api/search?q=a", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    service.searcher.generation = 2
    (other,) = ask(service, "/api/search?q=a", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_a_deadline_ends_the_wait(service):
    service.searcher.may_answer.clear()
    started = time.monotonic()
    (response,) = ask(service, "/api/search?q=slow&timeout_ms=100")
    assert error_of(response) == (504, "deadline_exceeded")
    assert time.monotonic() - started < 5
    service.searcher.may_answer.set()


def test_the_same_question_at_once_is_worked_out_once(service):
    async def run():
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            service.searcher.may_answer.clear()
            tasks = [asyncio.create_task(client.get("/api/search?q=a")) for _ in range(5)]
            await asyncio.sleep(0.1)
            other = await client.get("/api/search?q=b")  # the only turn is taken
            service.searcher.may_answer.set()
            return other, await asyncio.gather(*tasks)

    other, same = asyncio.run(run())
    assert error_of(other) == (503, "overloaded")
    assert [response.status_code for response in same] == [200] * 5
    assert service.searcher.asked == ["a"]


def test_an_answer_that_lacks_shards_says_so_and_is_not_kept(service):
    service.searcher.shards_answered = 2, 3
    for num_asked in (1, 2):
        (response,) = ask(service, "/api/search?q=a")
        assert response.json()["shards"] == {"answered": 2, "of": 3}
        assert len(service.searcher.asked) == num_asked
    service.searcher.shards_answered = 3, 3
    ask(service, "/api/search?q=a", "/api/search?q=a")
    assert len(service.searcher.asked) == 3


def test_what_is_turned_away_reads_no_catalogue(service):
    class Busy(FakeSearcher):
        num_read = 0

        @property
        def revision(self):
            self.num_read += 1
            return 1

        @revision.setter
        def revision(self, value): ...

    searcher = Busy()
    service.services.set_searcher(searcher)

    async def run():
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.get("/api/search?q=kept")
            searcher.may_answer.clear()
            first = asyncio.create_task(client.get("/api/search?q=a"))
            await asyncio.sleep(0.1)
            num_read = searcher.num_read
            turned_away = [await client.get(f"/api/search?q={q}") for q in "bcd"]
            assert searcher.num_read == num_read
            kept = await client.get("/api/search?q=kept")
            searcher.may_answer.set()
            return turned_away, kept, await first

    turned_away, kept, first = asyncio.run(run())
    assert [error_of(each) for each in turned_away] == [(503, "overloaded")] * 3
    assert (kept.status_code, first.status_code) == (200, 200)
    assert searcher.asked == ["kept", "a"]


def test_metrics(service):
    *_, response = ask(service, "/api/search?q=a", "/api/search?q=a", "/metrics")
    assert 'reelseek_requests_total{route="/api/search",status="200"}' in response.text
    assert 'reelseek_cache_total{cache="answers",result="hit"}' in response.text
    assert 'reelseek_stage_seconds_count{stage="encoding"}' in response.text
