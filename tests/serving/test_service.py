"""The whole service, as a user starts it: a folder of videos, its index, and what may happen."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.unkilled_replay import OPTIONS, learn, new_model, state_of
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.learn import FACTS_NAME
from reelseek.recommendation.learning.store import ModelReader
from reelseek.recommendation.personal.facts import FactsBook
from tests.command_lines import PROJECT, assert_user_error, run_in_this_process, run_program
from tests.conftest import COLOURS, write_colours
from tests.recommendation.learning.learner import digest_of

TOKEN = "a-token-of-at-least-16-letters"
pytestmark = [pytest.mark.long, pytest.mark.model]


class Service:
    """A running service."""

    def __init__(self, process: subprocess.Popen, url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log
        self.http = httpx.Client(base_url=url, timeout=60)

    def search(self, q: str, **options: object) -> dict:
        answer = self.http.get("/api/search", params={"q": q, **options})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def keys(self, q: str, **options: object) -> list[str]:
        return [hit["video"] for hit in self.search(q, **options)["hits"]]

    def worker(self) -> psutil.Process:
        """The process that answers on the service's port."""
        port = int(self.url.rpartition(":")[2])
        for child in psutil.Process(self.process.pid).children():
            listening = [each for each in child.net_connections() if each.status == "LISTEN"]
            if any(each.laddr.port == port for each in listening):
                return child
        raise AssertionError("no worker")

    def learner(self) -> psutil.Process:
        started = [line for line in self.log.read_text().splitlines() if '"started"' in line]
        learners = [each for each in map(json.loads, started) if each["process"] == "learner"]
        return psutil.Process(learners[-1]["pid"])

    def learning(self) -> dict:
        return self.http.get("/api/status").json()["learning"] or {"position": 0, "examples": 0}

    def metric(self, name: str) -> float:
        lines = self.http.get("/metrics").text.splitlines()
        (value,) = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
        return float(value)


def wait_for(condition: Callable[[], object], what: str, seconds: float = 90.0):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, colour in COLOURS.items():
        write_colours(folder / f"{name}.mp4", [colour] * 20)
    return folder


@pytest.fixture(scope="module")
def service(folder, tmp_path_factory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("home")
    log = home / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving", f"videos={folder}", "port=0"),
                *(f"index={home / 'index'}", f"write_token={TOKEN}", f"events={home / 'events'}"),
                *(f"cache={home / 'cache'}", "workers=1", "model=mini_fast", "learn=true"),
                f"personal.learner_options=[{','.join(OPTIONS)}]",
            ],
            cwd=PROJECT,
            stderr=file,
            env={**os.environ, "XDG_DATA_HOME": str(home)},
        )
    try:
        wait_for(lambda: "open http" in log.read_text(), "it starts", 30)
        (line,) = [each for each in log.read_text().splitlines() if each.startswith("open http")]
        started = Service(process, line.removeprefix("open ").rstrip("/"), log)
        wait_for(lambda: started.http.get("/readyz").status_code == 200, "it is ready")
        wait_for(lambda: len(started.keys("red")) == 3, "all is indexed")
        yield started
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_folder_is_searched(service, folder):
    for colour in COLOURS:
        assert service.keys(f"the colour {colour}")[0] == f"{colour}.mp4"
    assert str(folder) not in service.http.get("/api/search?q=red").text
    assert service.http.get("/").status_code == 200
    status = service.http.get("/api/status").json()
    assert status["videos"] == 3
    assert status["watching"] == [folder.name]


def test_a_picture_is_searched_by(service, tmp_path):
    from PIL import Image

    path = tmp_path / "green.png"
    Image.new("RGB", (64, 48), COLOURS["green"]).save(path)
    for fields in ({}, {"q": "green", "level": "moment"}):
        with path.open("rb") as file:
            answer = service.http.post("/api/search", files={"image": file}, data=fields)
        assert answer.json()["hits"][0]["video"] == "green.mp4"
    answer = service.http.post("/api/search", files={"image": b"no picture"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unusable_file"


def test_thumbnails_and_clips(service):
    id = service.search("red")["hits"][0]["id"]
    picture = service.http.get(f"/api/videos/{id}/thumbnail?at=0.5")
    assert picture.headers["content-type"] == "image/jpeg"
    clip = service.http.get(f"/api/videos/{id}/clip?start=0&end=1")
    assert clip.headers["content-type"] == "video/mp4"


def test_a_new_video_is_found(service, folder):
    before = service.search("white")["generation"]
    write_colours(folder / "white.mp4", [(250, 250, 250)] * 20)
    wait_for(lambda: "white.mp4" in service.keys("white"), "the new video is found")
    assert service.search("white")["generation"] > before
    assert service.keys("the colour white")[0] == "white.mp4"


def test_a_deletion_counts_from_the_next_search_on(service):
    service.keys("blue")  # is kept now
    id = next(hit["id"] for hit in service.search("blue")["hits"] if hit["video"] == "blue.mp4")
    assert service.http.delete(f"/api/videos/{id}").status_code in (401, 403)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    deleted = service.http.delete(f"/api/videos/{id}", headers=headers)
    assert deleted.status_code == 200, deleted.text
    assert "blue.mp4" not in service.keys("blue")
    assert "blue.mp4" not in service.keys("blue", after=deleted.json()["token"])


def test_a_worker_that_is_killed_is_replaced(service):
    worker = service.worker()
    worker.kill()
    wait_for(lambda: service.http.get("/readyz").status_code == 200, "it is ready again")
    assert service.worker().pid != worker.pid
    assert service.keys("the colour red")[0] == "red.mp4"
    assert f'"pid": {worker.pid}, "reason": "signal 9"' in service.log.read_text()


def test_kills_lose_no_event_and_learn_none_twice(service, tmp_path):
    videos = [hit["id"] for hit in service.search("red")["hits"]]
    folder = service.log.parent / "events"
    log = EventLog(folder)
    sent: set[str] = set()

    def send(number: int) -> None:
        """Sends what a user does, again until it is acknowledged."""
        common = {
            "time_seconds": time.time(),
            "user": f"user-{number % 3}",
            "request_id": str(number),
            "video": videos[number % len(videos)],
        }
        events = [
            {"kind": kind, "event_id": uuid.uuid4().hex, **common, **more}
            for kind, more in (("impression", {"position": 1}), ("click", {}))
        ]
        wait_for(
            lambda: service.http.post("/api/events", json={"events": events}).is_success, "stored"
        )
        sent.update(event["event_id"] for event in events)

    def is_learned() -> bool:
        return service.learning()["position"] == log.bounds()[1]

    for number in range(20):
        send(number)
    wait_for(is_learned, "all is learned")
    learner = service.learner()
    learner.kill()
    for number in range(20, 40):
        send(number)
    service.worker().kill()
    for number in range(40, 60):
        send(number)
    while not service.learning()["examples"]:  # the first, when their wait is over
        time.sleep(0.5)
        send(60)
    wait_for(is_learned, "all is learned again")
    assert service.learner().pid != learner.pid
    last = log.bounds()[1]
    wait_for(lambda: service.metric("reelseek_learned_position") == last, "all is served")
    assert service.metric("reelseek_index_generation") == service.search("red")["generation"]

    kept = [logged.event.event_id for logged in log.scan()]
    assert len(kept) == len(sent)
    assert set(kept) == sent
    killed = new_model()
    assert ModelReader(folder / "learned").load(killed).position == last
    (tmp_path / "replayed").mkdir()
    facts = shutil.copy(folder / "learned" / FACTS_NAME, tmp_path / "replayed")
    book = FactsBook(Path(facts), lambda video: None)
    replayed, _ = learn(log, tmp_path / "replayed", facts=book)
    assert state_of(replayed)[:2] == (last, digest_of(killed))
    assert replayed.joiner.counts.examples == service.learning()["examples"] > 0
    book.close()
    log.close()


def test_it_drains(service):
    """Last of all: what was asked before the service is told to stop is answered."""
    with ThreadPoolExecutor(6) as threads, httpx.Client(base_url=service.url, timeout=60) as http:
        asked = [
            threads.submit(http.get, "/api/search", params={"q": f"something new, {number}"})
            for number in range(6)
        ]
        wait_for(lambda: any(each.running() for each in asked), "they are asked")
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        assert [each.result().status_code for each in asked] == [200] * 6
    assert service.process.wait(30) == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/healthz")


def test_without_anything_to_serve():
    run = run_program("-m", "serving", "videos=/no/such/folder")
    assert run.returncode == 2
    assert "no such file or folder" in run.stderr


def test_without_the_extra(monkeypatch):
    import serving.__main__ as program

    monkeypatch.setattr(program, "find_spec", lambda name: None)
    run = run_in_this_process(program, "serve", "index=here")
    assert_user_error(run, "pip install 'reelseek[serve]'")
