"""Search and the feed in the order of a user, over HTTP."""

import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from starlette.testclient import TestClient

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.recommendation.learning.joining import JoinSettings
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.redis_files import published_files
from reelseek.recommendation.learning.status import StatusWriter
from reelseek.recommendation.learning.store import ModelStore
from reelseek.recommendation.personal.facts import IndexVideos
from reelseek.serving import recommending
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.learner import learn_config
from reelseek.serving.personalizing import learned_place
from reelseek.serving.services import Services
from tests.ranking.test_searcher import GivenEncoder
from tests.recommendation.logs import ids_in_order, index_of_axes
from tests.recommendation.personal.learned import Events
from tests.recommendation.redis_servers import Pair, needs_redis, wait_until

NUM = 20
AUTHORS = [f"author {number % 5}" for number in range(NUM)]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """An index of videos by five authors, and the model of users who like one of them each."""
    axes = [number % 2 for number in range(NUM)]
    return learned_in(tmp_path_factory.mktemp("personal"), axes, author=AUTHORS)


@pytest.fixture(scope="module")
def learned_by_looks(tmp_path_factory):
    """An index of videos of which nothing is known but their frames, which look one way of five,
    and the model of users who like one of these each."""
    return learned_in(tmp_path_factory.mktemp("looks"), [number % 5 for number in range(NUM)])


def learned_in(folder: Path, axes: list[int], **metadata) -> SimpleNamespace:
    reader = index_of_axes(folder / "index", axes, **metadata)
    ids = ids_in_order(reader, NUM)
    reader.close()
    log = Events(600, num_videos=NUM, name_of=lambda number: ids[number])
    videos = IndexVideos(folder / "index")
    with ModelStore(folder / "events" / "learned") as store:
        learner = Learner(
            log,
            store,
            model=OnlineModel(ModelSettings(capacity=3000)),
            join=JoinSettings(wait_seconds=5, correct_seconds=200),
            facts_of=videos,
        )
        while learner.step():
            StatusWriter(folder / "events" / "learned").note(learner, 1)
    videos.close()
    return SimpleNamespace(folder=folder, ids=ids, position=learner.position, now=log.now_seconds)


def service_of(learned, *arguments, **services_of):
    config = compose(
        ServeConfig,
        [
            f"index={learned.folder / 'index'}",
            f"events={learned.folder / 'events'}",
            *arguments,
        ],
    )
    searcher = Searcher.open(learned.folder / "index", encoder=GivenEncoder(), refresh="manual")
    services = Services(
        config=config,
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60),
        encoder=Client(learned.folder / "none"),
        **services_of,
    )
    services.set_searcher(searcher)
    client = TestClient(create_app(services), base_url="http://127.0.0.1")
    return services, client


@pytest.fixture
def service(learned, monkeypatch):
    monkeypatch.setattr(recommending, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(time, "time", lambda: learned.now)
    services, client = service_of(learned)
    services.personal._follower.poll()
    yield SimpleNamespace(client=client, services=services, ids=learned.ids)
    services.recommendations.close()
    services.personal.close()
    services.searcher.close()


def search(client, **parameters) -> dict:
    answer = client.get("/api/search", params={"q": "axis 0", "k": NUM, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def authors_of(answer: dict) -> list[str]:
    return [hit["metadata"]["author"] for hit in answer["hits"]]


def without_order(answer: dict) -> dict:
    """Of each hit, all that a user does not change."""
    own = ("rank", "relevance_rank", "personal", "reasons")
    return {
        hit["id"]: {name: value for name, value in hit.items() if name not in own}
        for hit in answer["hits"]
    }


def unit_of(monkeypatch, unit: float) -> None:
    monkeypatch.setattr("reelseek.serving.routes.search.score_unit", lambda *_, **__: unit)


def test_a_user_changes_the_order_and_nothing_else(service, monkeypatch):
    unit_of(monkeypatch, 100.0)  # all are about as relevant
    plain = search(service.client)
    for number in range(5):
        found = search(service.client, user=f"u{number}")
        assert without_order(found) == without_order(plain)
        assert authors_of(found)[:4] == [f"author {number}"] * 4
        assert [hit["rank"] for hit in found["hits"]] == list(range(1, NUM + 1))
        ranks = {hit["id"]: hit["rank"] for hit in plain["hits"]}
        assert all(hit["relevance_rank"] == ranks[hit["id"]] for hit in found["hits"])
        assert found["hits"][0]["reasons"][0] == f"you often watch author {number}"
        assert not any(f"author {number}" in str(hit["reasons"]) for hit in found["hits"][4:])
        assert all(abs(hit["personal"]) < 1 for hit in found["hits"])
        for name in ("why_empty", "next_cursor", "generation", "query", "shards"):
            assert found[name] == plain[name]


def test_a_hit_passes_only_those_that_are_about_as_relevant(service, monkeypatch):
    scores = {hit["id"]: hit["score"] for hit in search(service.client)["hits"]}
    for unit in (1e-6, 0.05, 0.5):
        unit_of(monkeypatch, unit)
        service.services.config.cache_mb = 0
        _, client = (
            service.services,
            TestClient(create_app(service.services), base_url="http://127.0.0.1"),
        )
        order = [scores[hit["id"]] for hit in search(client, user="u2")["hits"]]
        falls = np.maximum.accumulate(order[::-1])[::-1] - order  # how far below one behind it
        assert falls.max() < 2 * service.services.config.personal.weight * unit
        assert (falls.max() > 0) == (unit > 0.01)


def test_nothing_changes_without_a_user_or_of_one_who_is_unknown(service, monkeypatch):
    unit_of(monkeypatch, 100.0)
    plain = search(service.client)
    for parameters in ({}, {"user": ""}, {"user": "nobody"}):
        found = search(service.client, **parameters)
        assert {**found, "request_id": ""} == {**plain, "request_id": ""}
        assert "reasons" not in found["hits"][0]


def test_a_kept_answer_is_nobodys(service, monkeypatch):
    unit_of(monkeypatch, 100.0)
    first = [authors_of(search(service.client, user=f"u{n}"))[0] for n in (0, 1, 0, 2)]
    assert first == ["author 0", "author 1", "author 0", "author 2"]
    plain = service.client.get("/api/search", params={"q": "axis 0", "k": NUM})
    own = service.client.get("/api/search", params={"q": "axis 0", "k": NUM, "user": "u1"})
    assert plain.headers["etag"] != own.headers["etag"]
    again = service.client.get(
        "/api/search",
        params={"q": "axis 0", "k": NUM, "user": "u1"},
        headers={"If-None-Match": own.headers["etag"]},
    )
    assert again.status_code == 304


def test_by_parts_too(service, monkeypatch):
    unit_of(monkeypatch, 100.0)
    body = {"parts": [{"text": "axis 0"}], "k": NUM}
    found = service.client.post("/api/search", params={"user": "u3"}, json=body).json()
    assert authors_of(found)[:4] == ["author 3"] * 4


def test_the_next_page_goes_on(service, monkeypatch):
    unit_of(monkeypatch, 100.0)
    first = search(service.client, k=8, user="u3")
    second = search(service.client, k=8, user="u3", cursor=first["next_cursor"])
    plain = search(service.client, k=16)
    ids = [hit["id"] for page in (first, second) for hit in page["hits"]]
    assert sorted(ids) == sorted(hit["id"] for hit in plain["hits"])
    assert [hit["rank"] for hit in second["hits"]] == list(range(9, 17))


def test_it_is_off_with_a_weight_of_0(learned, service, monkeypatch):
    unit_of(monkeypatch, 100.0)
    services, client = service_of(learned, "personal.weight=0")
    services.personal._follower.poll()
    plain, found = search(client), search(client, user="u1")
    assert {**found, "request_id": ""} == {**plain, "request_id": ""}
    assert client.get("/api/status").json()["learning"]["position"] == learned.position
    services.searcher.close()


def test_a_model_that_cannot_be_read_leaves_search_as_it_is(learned, tmp_path, service):
    (tmp_path / "snapshot-0000000001-000000000001.bin").write_bytes(b"nothing")
    (tmp_path / "status.json").write_bytes(b"[")
    plain = search(service.client)
    for folder in (tmp_path, tmp_path / "none"):
        services, client = service_of(learned, f"personal.model={folder}")
        assert not services.personal._follower.poll()
        found = search(client, user="u1")
        assert {**found, "request_id": ""} == {**plain, "request_id": ""}
        assert client.get("/api/status").json()["learning"] is None
        assert client.get("/metrics").status_code == 200
        services.searcher.close()


def test_the_feed_has_a_part_for_it(service):
    def feed(user):
        answer = service.client.get(
            "/api/for-you", params={"user": user, "k": NUM, "explain": True}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["hits"]

    hits = [hit for hit in feed("u4") if not hit["is_explored"]]
    liked = [hit for hit in hits if hit["metadata"]["author"] == "author 4"]
    assert all(hit["parts"]["personal"] > 0.05 for hit in liked)
    assert hits[0]["metadata"]["author"] == "author 4"
    assert "you often watch author 4" in hits[0]["reasons"]
    assert all("personal" not in hit["parts"] for hit in feed(""))
    assert all(hit["parts"]["personal"] == 0 for hit in feed("nobody"))


def test_videos_without_metadata_are_ordered_by_their_looks(learned_by_looks, monkeypatch):
    monkeypatch.setattr(recommending, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(time, "time", lambda: learned_by_looks.now)
    unit_of(monkeypatch, 100.0)
    ids = learned_by_looks.ids
    services, client = service_of(learned_by_looks)
    services.personal._follower.poll()
    said = "it looks like what you watch"
    for number in range(5):
        found = search(client, user=f"u{number}")["hits"]
        alike = {ids[video] for video in range(number, NUM, 5)}
        assert {hit["id"] for hit in found[:4]} == alike
        assert all(said in hit["reasons"] for hit in found[:4])
        assert found[3]["personal"] > 0.5 > 0.3 > found[4]["personal"]
        assert not any(hit["reasons"] for hit in found[4:])
    answer = client.get("/api/for-you", params={"user": "u4", "k": NUM, "explain": True})
    parts = {hit["id"]: hit["parts"]["personal"] for hit in answer.json()["hits"]}
    liked = [parts.pop(ids[video]) for video in range(4, NUM, 5) if ids[video] in parts]
    assert min(liked) > max(parts.values())
    services.recommendations.close()
    services.personal.close()
    services.searcher.close()


def test_how_far_the_learner_is(learned, service):
    status = service.client.get("/api/status").json()["learning"]
    assert status["position"] == status["served_position"] == learned.position
    assert status["lag_events"] == 0
    assert status["frozen"] is None
    assert 0.5 < status["last_hour"]["AUC"] <= 1
    metrics = service.client.get("/metrics").text
    assert f"reelseek_learner_position {float(learned.position)}" in metrics
    assert f"reelseek_learned_position {float(learned.position)}" in metrics
    assert "reelseek_learner_frozen 0.0" in metrics
    assert "reelseek_learner_calibration_ratio" in metrics


def test_the_learner_of_a_service_has_its_folders(tmp_path):
    config = compose(
        ServeConfig,
        [
            f"index={tmp_path / 'i'}",
            f"events={tmp_path / 'e'}",
            "learn=true",
            "personal.learner_options=[wait_seconds=7]",
        ],
    )
    found = learn_config(config)
    assert (found.events, found.index) == (config.events, config.index)
    assert found.output == str(tmp_path / "e" / "learned")
    assert (found.wait_seconds, found.follow) == (7, True)


def test_learning_needs_events():
    with pytest.raises(ValueError, match="learn=true: needs events=DIR"):
        compose(ServeConfig, ["index=i", "learn=true"])


def served_status(learned, pair, weight):
    """Whether the learner runs, its position, and that which a service has, whose events are in
    Redis."""
    arguments = [f"events={pair.url}", f"personal.weight={weight}"]
    services, client = service_of(learned, *arguments)
    personal = services.personal
    personal._published.look()
    if weight:
        personal.start()
        wait_until(lambda: (personal.status() or {}).get("served_position") is not None)
    found = client.get("/api/status").json()["learning"]
    assert f"reelseek_learner_up {float(found['runs'])}" in client.get("/metrics").text
    personal.close()
    services.searcher.close()
    return found["runs"], found.get("position"), found["served_position"]


def published(learned, folder, pair):
    """Publishes the learned model; returns the files."""
    shutil.copytree(learned.folder / "events" / "learned", folder)
    files = published_files("publish", pair.url)
    with ModelStore(folder, publish=files) as store:
        model = OnlineModel(ModelSettings(capacity=3000))
        store.open(model)
        store.commit(model, learned.position)
    return files


@needs_redis
def test_a_service_whose_events_are_in_redis_follows_what_is_published_there(learned, tmp_path):
    pair = Pair(tmp_path)
    try:
        files = published(learned, tmp_path / "learned", pair)
        status = (learned.folder / "events" / "learned" / "status.json").read_bytes()
        for weight in (0.1, 0):
            files.write_status(status, epoch=2, kept_seconds=30)
            served = learned.position if weight else None
            assert served_status(learned, pair, weight) == (True, learned.position, served)
        pair.master.call("DEL", "reelseek:model_status")  # its seconds are over
        assert served_status(learned, pair, 0.1) == (False, None, learned.position)
        files.close()
    finally:
        pair.close()


@needs_redis
def test_a_worker_that_starts_while_redis_is_away_follows_later(learned, tmp_path):
    pair = Pair(tmp_path)
    try:
        published(learned, tmp_path / "learned", pair).close()
        pair.master.kill()
        services, client = service_of(learned, f"personal.model={pair.url}")
        services.personal.start()
        assert without_order(search(client, user="u1")) == without_order(search(client))
        assert client.get("/api/status").json()["learning"] is None
        pair.master.start()
        wait_until(
            lambda: (services.personal.status() or {}).get("served_position") == learned.position
        )
        services.personal.close()
        services.searcher.close()
    finally:
        pair.close()


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ([], None),
        (["events=kept"], Path("kept") / "learned"),
        (["events=kept", "personal.model=other"], Path("other")),
        (["events=redis://one"], "redis://one"),
        (["events=redis://one", "personal.model=redis://two"], "redis://two"),
        (["events=redis://one", "personal.model=kept"], Path("kept")),
    ],
)
def test_where_the_model_is(options, place):
    config = compose(ServeConfig, ["index=none", *options])
    found = learned_place(config)
    assert found == (place if not isinstance(place, Path) else found.parent / place.name)
    assert isinstance(found, type(place))


def test_a_service_does_not_learn_from_events_in_redis():
    with pytest.raises(ValueError, match=r"learn=true: .* run one learner for all servers"):
        compose(ServeConfig, ["index=none", "events=redis://one", "learn=true"])
