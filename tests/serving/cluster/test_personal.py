"""A service whose shards other processes read orders hits for a user as one machine does."""

import pickle
from functools import partial

import pytest

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.cluster.source import Location
from reelseek.serving.routes.search import search_answer
from reelseek.serving.services import Services
from tests.indexing.shards.collection import GivenEncoder
from tests.serving.cluster.authors import at_the_end_of, authors, follow, with_authors
from tests.serving.cluster.test_reader import searcher_of
from tests.serving.test_app import ask

pytest.importorskip("tantivy")

# By pictures, by words too, moments, a page after the first, and in temporal order.
TARGETS = (
    "/api/search?q=dog+in+the+snow&k=20&sources=visual",
    "/api/search?q=red+river&k=20",
    "/api/search?q=red+river&level=moment&k=9",
    "/api/search?q=a+dog+runs,+then+a+cat&k=9",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return authors(tmp_path_factory.mktemp("authors"), *with_authors(60), num_shards=5)


def answers(made, searcher, *targets, search=None, engine="local"):
    """What a worker answers.

    Args:
        search: what answers its searches elsewhere.
    """
    options = [f"index={made.shards}", f"engine={engine}", f"personal.model={made.model}"]
    services = Services(
        config=compose(ServeConfig, options),
        admission=Admission(num_running=1, max_waiting=9, max_wait_seconds=60),
        encoder=Client(made.shards / "none"),
        search=search,
    )
    services.set_searcher(searcher)
    app = type("Service", (), {"app": create_app(services)})
    follow(services)
    with at_the_end_of(made):
        found = [response.json() for response in ask(app, *targets)]
    for each in found:
        each.pop("request_id")
        each.pop("shards")
    return found


def routed(searcher, worker, asked):
    """Answers as a router does: over the shards, and sent as bytes."""
    del worker
    return pickle.loads(pickle.dumps(search_answer(searcher, asked)))


@pytest.mark.parametrize("num_groups", [1, 5])
def test_hits_are_ordered_for_a_user_as_on_one_machine(made, num_groups):
    targets = [f"{each}{user}" for each in TARGETS for user in ("", "&user=u1", "&user=nobody")]
    with Searcher.open(made.one, encoder=GivenEncoder(), refresh="manual") as one:
        expected = answers(made, one, *targets)
    with searcher_of(Location(str(made.shards)), num_groups) as (searcher, _):
        found = answers(made, searcher, *targets, search=partial(routed, searcher), engine="ray")
    assert found == expected
    plain, own, unknown = (found[n::3] for n in range(3))
    assert unknown == plain
    num_moved = 0
    for before, after in zip(plain[:3], own[:3], strict=True):
        assert after["learned_position"] == made.position
        ids = [[hit["id"] for hit in each["hits"]] for each in (before, after)]
        assert sorted(ids[0]) == sorted(ids[1])
        num_moved += ids[0] != ids[1]
        liked = [hit for hit in after["hits"] if hit["metadata"]["author"] == "author 1"]
        assert all("you often watch author 1" in hit["reasons"] for hit in liked)
    assert num_moved >= 2
    assert own[3] == plain[3]  # their order is not by score


def test_a_missing_shard_leaves_the_unit_as_it_was(made):
    """What is known of the whole collection is known without it."""
    target = f"{TARGETS[0]}&user=u1"
    with searcher_of(Location(str(made.shards)), 5, deadline_seconds=2.0) as (searcher, handles):
        ask_for = partial(answers, made, searcher, target, search=partial(routed, searcher))
        (whole,) = ask_for(engine="ray")
        handles[2].replicas[0].seconds = 600
        (part,) = ask_for(engine="ray")
    scores = {hit["id"]: hit["personal"] for hit in whole["hits"]}
    assert part["hits"] and all(
        hit["personal"] == scores[hit["id"]] for hit in part["hits"] if hit["id"] in scores
    )
    order = [hit["id"] for hit in whole["hits"] if hit["id"] in {h["id"] for h in part["hits"]}]
    assert [hit["id"] for hit in part["hits"] if hit["id"] in order] == order
