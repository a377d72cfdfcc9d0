"""The one test of a service on Ray that is short; the others are in `test_failures.py`."""

import pytest

from reelseek.indexing.cluster.connection import connect
from reelseek.indexing.shards.opening import open_writer
from tests.serving.cluster.authors import at_the_end_of, authors, follow, with_authors
from tests.serving.test_app import ask
from tests.serving.test_shards import answers

pytestmark = pytest.mark.cluster


def test_a_service_on_ray_says_the_same_and_follows_new_generations(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    pytest.importorskip("tantivy")
    from tests.serving.cluster.ray_service import asgi, served

    held, texts = with_authors(30)
    made = authors(tmp_path, held[:28], texts, num_shards=3)
    index = made.shards
    targets = [
        "/api/search?q=dog+in+the+snow",
        "/api/search?q=red+river&level=moment&k=4&strip=true",
        "/api/search?q=cat&where=year%3D2002",
        "/api/search?q=cat&where=no_such_field%3D1",
        "/api/suggest?prefix=d",
        "/api/search?q=dog+in+the+snow&k=20&sources=visual&user=u1",
    ]
    personal = f"personal.model={made.model}"
    with at_the_end_of(made):
        expected = answers(made.one, *targets, options=[personal])
    assert "learned_position" in expected[-1][1]
    options = ("ray.shards_per_replica=2", "ray.replicas=1", "ray.max_replicas=1")
    routers = ("ray.routers=1", "ray.max_routers=1", "ray.deadline_ms=20000")
    with (
        connect(None),
        served(str(index), *options, *routers, personal) as (services, front, _),
        at_the_end_of(made),
    ):
        service = asgi(services)
        follow(services)
        for target, response, (status, answer) in zip(
            targets, ask(service, *targets), expected, strict=True
        ):
            found = response.json()
            found.pop("request_id", None)
            if "shards" in found:
                assert found.pop("shards") == {"answered": 3, "of": 3}, target
                del answer["shards"]
            assert (response.status_code, found) == (status, answer), target

        with open_writer(index) as writer:
            writer.add(*held[28])
            writer.publish()
        assert front.refresh()
        (response,) = ask(service, "/api/search?q=dog&k=200")
        assert response.json()["generation"] == front.searcher.generation
        num_found = sum(1 + len(hit["also_as"]) for hit in response.json()["hits"])
        assert num_found == front.searcher.reader.manifest.num_videos == 29
