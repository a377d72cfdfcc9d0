"""Related videos and the feed over HTTP: from cold to warm in one process, and back."""

import shutil
import time
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.writer import IndexWriter
from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.content import IndexContent
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.models import folder as models
from reelseek.recommendation.models.building import BuildSettings, build
from reelseek.serving import recommending
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.services import Services
from tests.indexing.small_index import SETTINGS
from tests.ranking.test_searcher import GivenEncoder
from tests.recommendation.logs import event, ids_in_order, index_of_axes, watch
from tests.recommendation.models.test_models import SMALL

NUM = 16


def hour_ago() -> float:
    return time.time() - 3600


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recommend") / "index"
    reader = index_of_axes(
        folder,
        [number % 8 for number in range(NUM)],
        title=[f"Number {number}" for number in range(NUM)],
    )
    yield folder, ids_in_order(reader, NUM)
    reader.close()


@pytest.fixture
def service(index, tmp_path, monkeypatch):
    monkeypatch.setattr(recommending, "_TICK_SECONDS", 0.02)
    shutil.copytree(index[0], tmp_path / "index")
    ids = index[1]
    log = EventLog(tmp_path / "events")
    services = Services(
        config=compose(
            ServeConfig, [f"index={tmp_path / 'index'}", f"events={tmp_path / 'events'}"]
        ),
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60),
        encoder=Client(tmp_path / "none"),
        events=log,
    )
    searcher = Searcher.open(tmp_path / "index", encoder=GivenEncoder(), refresh="manual")
    services.set_searcher(searcher)
    client = TestClient(create_app(services), base_url="http://127.0.0.1")
    yield SimpleNamespace(
        client=client, services=services, searcher=searcher, ids=ids, log=log, folder=tmp_path
    )
    services.recommendations.close()
    searcher.close()
    log.close()


def hits(service, target: str, **parameters) -> list[dict]:
    answer = service.client.get(target, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    return answer.json()["hits"]


def feed(service, user: str, **parameters) -> list[str]:
    return [hit["id"] for hit in hits(service, "/api/for-you", user=user, **parameters)]


def related(service, number: int, **parameters) -> list[dict]:
    return hits(service, f"/api/videos/{service.ids[number]}/related", **parameters)


def click(service, user: str, *numbers: int) -> None:
    watch(service.log, user, [service.ids[number] for number in numbers], start=hour_ago())


def click_together(service, num_users: int, *numbers: int) -> None:
    """Users `user0`, `user1`, ... who each open the same videos."""
    service.log.append(
        [
            event("click", f"user{user}", service.ids[number], at=hour_ago() + 60 * i)
            for user in range(num_users)
            for i, number in enumerate(numbers)
        ]
    )


def test_from_cold_to_warm_in_one_process(service):
    ids = service.ids
    first = related(service, 0, k=1)[0]
    assert (first["id"], first["reasons"][0]) == (ids[8], "looks alike")  # of the same axis
    assert len(feed(service, "ann")) > 10
    click_together(service, 30, 0, 5)
    click(service, "ann", 0)
    found = related(service, 0, k=1)[0]
    assert (found["id"], found["reasons"][0]) == (ids[5], "watched by the same people")
    found = hits(service, "/api/for-you", user="ann", k=4)
    assert found[0]["id"] == ids[5]
    assert found[0]["reasons"][0] == "watched by people who watched the same"
    assert ids[0] not in [hit["id"] for hit in found]


def test_what_is_seen_is_out_at_once(service):
    for _ in range(3):
        (first, *_) = feed(service, "ann", k=5)
        click(service, "ann", service.ids.index(first))
        assert first not in feed(service, "ann", k=50)


def test_a_deleted_user_is_in_no_answer_at_once(service):
    click_together(service, 2, 0, 5)
    click(service, "ann", 0)
    assert service.ids[0] not in feed(service, "ann", k=50)
    service.log.delete_user("ann")
    assert service.ids[0] in feed(service, "ann", k=50)
    for user in range(2):
        service.log.delete_user(f"user{user}")
    answer = related(service, 0, k=9, explain=True)
    assert all(hit["parts"]["watched by the same people"] == 0 for hit in answer)
    popular = hits(service, "/api/for-you", user="x", k=16, explain=True)
    assert all(hit["parts"]["popularity"] == 0 for hit in popular)


def test_fields_of_a_hit(service):
    hit = hits(service, "/api/for-you", user="ann", k=1, explain=True)[0]
    expected = {
        *("rank", "id", "video", "score", "start_seconds", "end_seconds", "best_seconds"),
        *("duration_seconds", "metadata", "confidence", "evidence", "date", "date_source"),
        *("also_as", "reasons", "propensity", "parts", "is_explored"),
    }
    assert set(hit) == expected
    assert (hit["rank"], hit["propensity"]) == (1, 1.0)
    assert "/videos/" not in str(hit)  # no path of this machine
    plain = hits(service, "/api/for-you", user="ann", k=1)[0]
    assert set(plain) == expected - {"parts", "is_explored"}
    assert {"reasons", "also_as"} <= set(related(service, 0)[0])


def test_related_is_paged(service):
    whole = [hit["id"] for hit in related(service, 0, k=9)]
    target = f"/api/videos/{service.ids[0]}/related"
    found, cursor = [], None
    while len(found) < 9:
        answer = service.client.get(
            target, params={"k": 3} | ({} if cursor is None else {"cursor": cursor})
        ).json()
        assert [hit["rank"] for hit in answer["hits"]] == list(
            range(len(found) + 1, len(found) + 4)
        )
        found += [hit["id"] for hit in answer["hits"]]
        cursor = answer["next_cursor"]
    assert sorted(found) == sorted(whole) and service.ids[0] not in found


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def built(service, factors: bool = True, sequential: dict | None = None) -> int:
    settings = BuildSettings(
        factors=AlsSettings(num_factors=4) if factors else None, sequential=sequential
    )
    catalogue = service.services.recommendations.view().catalogue
    learned = build(
        service.log,
        catalogue.row_by_id,
        IndexContent(catalogue),
        settings,
        fingerprint=SETTINGS.fingerprint,
        progress=lambda fraction, text: None,
    )
    return models.write(models.default_folder(service.folder / "events"), learned)


def version(service) -> int:
    return service.client.get("/api/for-you").json()["model"]


def test_a_new_model_is_picked_up_and_set_aside_after_a_deletion(service):
    pytest.importorskip("implicit")
    for number in range(4):
        service.log.append(
            [
                event("click", f"user{number}-{user}", service.ids[each], at=hour_ago() + each)
                for user in range(8)
                for each in (number, 4 + number, 8 + number)
            ]
        )
    assert version(service) == 0
    assert built(service) == 1
    wait_for(lambda: version(service) == 1)
    click(service, "ann", 0)  # after the model: counted on top of it
    found = hits(service, "/api/for-you", user="ann", k=9, explain=True)
    assert any(hit["parts"]["factors"] > 0 for hit in found)
    service.log.delete_user("user0-0")
    found = hits(service, "/api/for-you", user="ann", k=9, explain=True)
    assert all(hit["parts"]["factors"] == 0 for hit in found)
    assert built(service) == 2
    wait_for(lambda: version(service) == 2)
    found = hits(service, "/api/for-you", user="ann", k=9, explain=True)
    assert any(hit["parts"]["factors"] > 0 for hit in found)


def test_the_sequential_model_says_what_follows_until_somebody_is_deleted(service):
    service.log.append(
        [  # always in a circle
            event("click", f"user{user}", service.ids[(user + step) % NUM], at=hour_ago() + step)
            for user in range(120)
            for step in range(4)
        ]
    )
    assert built(service, factors=False, sequential=SMALL) == 1
    wait_for(lambda: version(service) == 1)
    click(service, "ann", 4, 5)
    found = hits(service, "/api/for-you", user="ann", k=14, explain=True)
    parts = {hit["id"]: hit["parts"]["sequence"] for hit in found}
    assert max(parts, key=parts.get) in (service.ids[6], service.ids[7])
    assert any("often follows what you watched" in hit["reasons"] for hit in found)
    service.log.delete_user("user0")
    found = hits(service, "/api/for-you", user="ann", k=14, explain=True)
    assert all(hit["parts"]["sequence"] == 0 for hit in found)


def test_a_process_that_begins_after_a_deletion_does_not_use_the_model(service):
    click_together(service, 5, 0, 5)
    built(service, factors=False)
    service.log.delete_user("user0")
    assert version(service) == 0
    parts = related(service, 0, explain=True)[0]
    assert parts is not None  # from the log alone


def test_a_damaged_model_is_not_used(service):
    click_together(service, 5, 0, 5)
    built(service, factors=False)
    (path,) = (service.folder / "events").rglob("counts.npy")
    path.write_bytes(b"")
    assert version(service) == 0
    assert len(related(service, 0)) > 0


def test_videos_that_are_deleted_are_in_no_answer(service):
    assert service.ids[8] in [hit["id"] for hit in related(service, 0)]
    with IndexWriter(service.folder / "index", SETTINGS) as writer:
        record = service.searcher.reader.record(service.ids[8])
        writer.delete_videos([record])
        writer.publish()
    service.searcher.refresh()
    assert service.ids[8] not in [hit["id"] for hit in related(service, 0)]
    assert service.ids[8] not in feed(service, "ann", k=50)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/for-you?k=0", 422, "invalid_request"),
        ("/api/for-you?k=1000", 422, "invalid_request"),
        ("/api/for-you?user=" + "a" * 129, 422, "invalid_request"),
        ("/api/videos/nobody/related", 404, "not_found"),
        ("/api/videos/%00/related", 404, "not_found"),
        ("/api/videos/{id}/related?cursor=related.9999", 400, "invalid_request"),
        ("/api/videos/{id}/related?start_seconds=99", 422, "out_of_range"),
        ("/api/videos/{id}/related?k=-1", 422, "invalid_request"),
    ],
)
def test_bad_requests_are_answered_as_json(service, target, status, code):
    answer = service.client.get(target.replace("{id}", service.ids[0]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("user", ["", "%00", "'; DROP TABLE events", "名前", "../../etc", "\u202e"])
def test_users_of_any_text_get_an_answer(service, user):
    assert len(feed(service, user, k=3)) == 3


def test_hostile_ids_in_events_do_no_harm(service):
    service.log.append([event("click", "ann", v, at=hour_ago()) for v in ("../x", "名", "a" * 128)])
    assert len(feed(service, "ann", k=3)) == 3


def test_a_service_without_events_has_a_feed(service):
    services = Services(
        config=service.services.config,
        admission=service.services.admission,
        encoder=service.services.encoder,
    )
    services.set_searcher(service.searcher)
    client = TestClient(create_app(services), base_url="http://127.0.0.1")
    hits_of_all = client.get("/api/for-you", params={"user": "ann", "k": 3}).json()["hits"]
    assert len(hits_of_all) == 3
    services.recommendations.close()


def test_events_that_cannot_be_read_are_said(service):
    feed(service, "ann")
    service.log.close()
    path = service.folder / "events" / "events.sqlite"
    path.write_bytes(b"no database" * 1000)
    answer = service.client.get("/api/for-you", params={"user": "ann"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "events_unavailable"
    assert len(related(service, 0)) > 0


def test_a_service_that_is_not_ready_says_so(tmp_path):
    services = Services(
        config=compose(ServeConfig, [f"index={tmp_path}"]),
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60),
        encoder=Client(tmp_path / "none"),
    )
    client = TestClient(create_app(services), base_url="http://127.0.0.1")
    for target in ("/api/for-you", "/api/videos/x/related"):
        assert client.get(target).json()["error"]["code"] == "not_ready"


def test_no_seen_video_in_many_answers(service):
    """Users watch what they are given until nothing is left."""
    for user in range(3):
        seen: set[str] = set()
        for _ in range(NUM + 2):
            found = feed(service, f"u{user}", k=5)
            assert not seen & set(found)
            if not found:
                break
            click(service, f"u{user}", *(service.ids.index(each) for each in found[:3]))
            seen |= set(found[:3])
        assert len(seen) >= NUM - 4  # near-duplicates of seen videos may be left
