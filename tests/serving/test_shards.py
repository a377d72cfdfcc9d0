"""The service over an index in shards: its answers, its writes and its report."""

from contextlib import closing

import pytest

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing import IndexReader
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.library import writes
from reelseek.serving.library.report import IndexReports
from reelseek.serving.library.target import resolve_target
from reelseek.serving.services import Services
from tests.indexing.shards.collection import GivenEncoder, collection, make_index
from tests.serving.cluster.authors import follow
from tests.serving.test_app import ask

pytest.importorskip("tantivy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    held, texts = collection(num=30)
    folder = tmp_path_factory.mktemp("made")
    return [make_index(folder / str(n), held, texts, num_shards=n) for n in (1, 3)]


def answers(folder, *targets, options=()):
    config = compose(ServeConfig, [f"index={folder}", *options])
    admission = Admission(num_running=1, max_waiting=9, max_wait_seconds=9)
    services = Services(config=config, admission=admission, encoder=Client(folder / "none"))
    with Searcher.open(folder, encoder=GivenEncoder(), refresh="manual") as searcher:
        services.set_searcher(searcher)
        said = []
        app = type("Service", (), {"app": create_app(services)})
        if services.personal is not None:
            follow(services)
        for response in ask(app, *targets):
            answer = response.json()
            answer.pop("request_id", None)
            said.append((response.status_code, answer))
    return said


def test_the_api_says_the_same(made):
    with closing(IndexReader(made[0])) as reader:
        id = reader.video_ids()[7]
    targets = [
        "/api/search?q=dog+in+the+snow",
        "/api/search?q=red+river&level=moment&k=4",
        "/api/search?q=cat&where=year%3D2002",
        "/api/suggest?prefix=d",
        f"/api/videos/{id}",
        f"/api/videos/{id}/related",
    ]
    one, shards = (answers(folder, *targets) for folder in made)
    assert {status for status, _ in one} == {200}
    assert shards == one


def test_writes_of_the_service(tmp_path):
    held, texts = collection(num=12)
    folder = make_index(tmp_path / "index", held, texts, num_shards=3)
    assert resolve_target(compose(ServeConfig, [f"index={folder}"])).index == folder
    report = IndexReports(folder)
    assert (report.read().videos, report.read().num_failed) == (12, 1)
    with closing(IndexReader(folder)) as reader:
        first, second, *_ = reader.video_ids()
        path = reader.record(first).path
    state = writes.current_state(folder)
    assert writes.find_by_path(folder, [path])[path].public_id == first
    token = writes.delete_videos(folder, [first])
    assert token > state and writes.is_any_excluded(folder, [path])
    writes.include_paths(folder, [path])
    assert not writes.is_any_excluded(folder, [path])
    token, metadata = writes.change_metadata(folder, second, {"title": "by hand"})
    assert metadata["title"] == "by hand" and token > state
    with closing(IndexReader(folder)) as reader:
        assert reader.record(first) is None
        assert reader.record(second).metadata["title"] == "by hand"
    assert report.read().videos == 11
