"""A user's mistakes with `engine=ray`, each in one line before anything is started."""

import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.cluster import connection
from reelseek.serving import __main__ as program
from reelseek.serving.cluster.source import positions_of
from tests.command_lines import run_in_this_process
from tests.indexing.shards.collection import make_index


def serve(*arguments: str):
    return run_in_this_process(program, "serve", *arguments)


def test_without_ray_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    done = serve(f"index={tmp_path}", "engine=ray")
    assert (done.returncode, done.stderr) == (
        2,
        "error: engine=ray: needs Ray, which is missing; pip install 'reelseek[cluster]'\n",
    )


def test_fewer_at_most_than_at_least_are_refused():
    with pytest.raises(ValueError, match=r"ray\.max_replicas=1: must be at least ray.replicas"):
        compose(ServeConfig, ["engine=ray", "ray.replicas=3", "ray.max_replicas=1"])
    with pytest.raises(ValueError, match=r"ray\.max_routers"):
        compose(ServeConfig, ["engine=ray", "ray.routers=3"])


def test_an_index_without_videos_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: object())
    index = make_index(tmp_path / "index", [], {}, num_shards=2)
    done = serve(f"index={index}", "engine=ray", "port=0")
    assert done.returncode == 2
    assert "nothing in it can be searched yet" in done.stderr


@pytest.mark.parametrize("num_groups", [1, 2, 3, 7])
def test_each_shard_is_in_one_group(num_groups):
    groups = [positions_of(group, num_groups) for group in range(num_groups)]
    assert all(sum(position in group for group in groups) == 1 for position in range(50))
