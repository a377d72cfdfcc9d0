"""`/api/events` over HTTP: what is answered, and what is stored then."""

import json
import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.recommendation.events.log import EventLog, EventsUnavailable, EventsUnreachable
from reelseek.recommendation.events.schema import Deletion
from reelseek.recommendation.events.store import EventStore
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.services import Services
from tests.recommendation.events.event_writer import NOW

TOKEN, WRITE_TOKEN = "token-of-the-reader", "token-of-the-writer"
TOKENS = (f"token={TOKEN}", f"write_token={WRITE_TOKEN}")


def client_of(log: EventLog | None, folder: Path, *options: str) -> TestClient:
    services = Services(
        config=compose(ServeConfig, ["index=i", *options]),
        admission=Admission(num_running=1, max_waiting=1, max_wait_seconds=1.0),
        encoder=Client(folder / "none"),
        events=log,
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return TestClient(create_app(services), base_url="http://127.0.0.1", headers=headers)


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "events")
    yield log
    log.close()


@pytest.fixture
def client(log, tmp_path) -> TestClient:
    return client_of(log, tmp_path, *TOKENS)


def delete(client: TestClient, user: str, token: str = WRITE_TOKEN):
    headers = {"Authorization": f"Bearer {token}"}
    return client.delete("/api/events", params={"user": user}, headers=headers)


def click(event_id: str, **fields) -> dict:
    common = {"kind": "click", "event_id": event_id, "time_seconds": NOW - 1e8, "user": "u"}
    return {**common, "video": "v", **fields}


def post(client: TestClient, *events: dict):
    return client.post("/api/events", json={"events": events})


def ids(log: EventLog) -> list[str]:
    """Of what users did."""
    found = [each.event for each in log.read()]
    return [each.event_id for each in found if not isinstance(each, Deletion)]


def test_events_are_stored_once(client, log):
    answer = post(client, click("a"), click("b"), click("a"))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2, "duplicates": 1})
    assert post(client, click("b"), click("c")).json() == {"accepted": 1, "duplicates": 1}
    assert post(client).json() == {"accepted": 0, "duplicates": 0}
    assert ids(log) == ["a", "b", "c"]


def test_nothing_of_a_refused_request_is_stored(client, log):
    answer = post(client, click("a"), click("b", video=3))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_events")
    assert answer.json()["error"]["message"].startswith("events[1].video: ")
    answer = post(client, *[click(f"{i}") for i in range(1001)])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_events")
    assert "1001" in answer.json()["error"]["message"]
    answer = client.post("/api/events", content=b"{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_events")
    assert ids(log) == []


def test_the_body_is_bounded(client, log):
    padding = b" " * (2**20 - len(json.dumps({"events": [click("a")]})))
    body = json.dumps({"events": [click("a")]}).encode() + padding
    assert client.post("/api/events", content=body).json()["accepted"] == 1
    num_sent = 0

    def endless():
        nonlocal num_sent
        for num_sent in range(100):  # noqa: B007
            yield b" " * 2**17

    for content in (body + b" ", endless()):
        answer = client.post("/api/events", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert ids(log) == ["a"]


def test_a_user_is_deleted(client, log):
    post(client, click("a"), click("b", user="\u00fc & co"), click("c", session="\u00fc & co"))
    answer = delete(client, "\u00fc & co")
    assert (answer.status_code, answer.json()) == (200, {"deleted": 2})
    assert delete(client, "nobody").json() == {"deleted": 0}
    assert ids(log) == ["a"]
    assert [each.event.is_of("\u00fc & co") for each in log.read()[1:]] == [True, False]
    for user in ("", "x" * 129):
        assert delete(client, user).status_code == 422


def test_a_deletion_needs_the_token_to_write(client, log):
    post(client, click("a"))
    for answer in (delete(client, "u", TOKEN), client.delete("/api/events?user=u")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "write_token_needed")
    assert ids(log) == ["a"]


def test_events_are_off_by_default(tmp_path):
    client = client_of(None, tmp_path, *TOKENS)
    for answer in (post(client, click("a")), delete(client, "u")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "events_off")


def test_what_cannot_be_stored_is_refused(client, log, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise EventsUnavailable(f"[Errno 28] No space left on device: '{tmp_path}'")

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append", fail)
        patch.setattr(EventStore, "delete_user", fail)
        stored = post(client, click("a"))
        deleted = delete(client, "u")
    assert (stored.status_code, stored.json()["error"]["code"]) == (507, "events_not_stored")
    assert (deleted.status_code, deleted.json()["error"]["code"]) == (507, "events_not_deleted")
    assert str(tmp_path) not in stored.text + deleted.text
    assert post(client, click("a")).json() == {"accepted": 1, "duplicates": 0}


def test_without_a_replica_events_are_not_acknowledged(client, log, monkeypatch):
    def fail(*_, **__):
        raise EventsUnreachable("redis://10.0.0.1:6379/0: no replica has confirmed the write")

    with monkeypatch.context() as patch:
        patch.setattr(EventStore, "append", fail)
        patch.setattr(EventStore, "delete_user", fail)
        for answer, code in (
            (post(client, click("a")), "events_not_stored"),
            (delete(client, "u"), "events_not_deleted"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
            assert "10.0.0.1" not in answer.text
            assert answer.headers["Retry-After"] == "5"
    assert post(client, click("a")).json() == {"accepted": 1, "duplicates": 0}


def test_a_disk_that_does_not_answer(client, log, monkeypatch):
    """The request is refused in time; that the events are stored later is harmless."""
    monkeypatch.setattr("reelseek.serving.routes.events._STORE_SECONDS", 0.1)
    append, go_on = EventStore.append, threading.Event()
    monkeypatch.setattr(
        EventStore, "append", lambda store, batches: go_on.wait(10) and append(store, batches)
    )
    assert post(client, click("a")).status_code == 507
    go_on.set()
    monkeypatch.undo()
    log.close()
    assert post(client, click("a")).json() == {"accepted": 0, "duplicates": 1}


def test_openapi_describes_events(client):
    api = client.get("/openapi.json").json()["paths"]["/api/events"]
    content = api["post"]["requestBody"]["content"]["application/json"]
    assert "$ref" not in json.dumps(content)
    kinds = content["schema"]["properties"]["events"]["items"]["anyOf"]
    assert {each["properties"]["kind"]["enum"][0] for each in kinds} == {
        *["search", "impression", "click", "play", "skip", "like"]
    }
    assert {"400", "404", "413", "507"} <= api["post"]["responses"].keys()
    assert client.post("/api/events", json=content["example"]).json()["accepted"] == 1
