"""What is killed on a cluster costs the work in hand, and nothing else: `make test-cluster`."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reelseek.indexing.store.report import read_report
from tests.indexing.cluster.colour_runs import PROJECT, decoded, finish, problems, start
from tests.indexing.cluster.conftest import SmallCluster, processes, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.cluster_failures]


def test_two_nodes_give_the_rows_of_one_machine(run, expected):
    summary = finish(start(run))
    assert problems(Path(run.index), expected) == []
    assert (summary["indexed"], summary["repeated"]) == (len(expected), 0)
    assert sorted(decoded(Path(run.log))) == sorted(expected)


def kill(title: str) -> int:
    """Kills the first process of Ray that does this."""
    wait_until(lambda: processes(title))
    process = processes(title)[0]
    process.kill()
    return process.pid


def begun(run, *, num: int = 22):
    """Starts a run, and waits until it writes shards and this many videos were begun."""
    process = start(replace(run, seconds=0.1))
    wait_until(lambda: len(decoded(Path(run.log))) >= num or process.poll() is not None)
    return process


@pytest.mark.parametrize("title", ["decode_video", "EncoderActor", "ShardActor"])
def test_process_that_is_killed_costs_what_it_had_in_hand(run, expected, title):
    process = begun(run)
    kill(title)
    summary = finish(process)
    assert problems(Path(run.index), expected) == []
    assert summary["indexed"] == len(expected)
    num_twice = len(decoded(Path(run.log))) - len(expected)
    assert num_twice <= summary["repeated"] <= 2  # a writer or an encoder costs none


def test_node_that_is_killed_costs_what_it_had_in_hand(run, expected, ray_nodes):
    process = begun(run)
    ray_nodes.kill_node()
    ray_nodes.add_node()
    summary = finish(process)
    assert problems(Path(run.index), expected) == []
    num_twice = len(decoded(Path(run.log))) - len(expected)
    # One task that decodes, and what was encoded there and not yet on disk.
    assert num_twice <= summary["repeated"] <= 30


@pytest.mark.parametrize("num", [10, 30], ids=["sample", "shards"])
def test_driver_that_is_killed_goes_on_where_it_was(run, expected, num):
    process = begun(run, num=num)
    time.sleep(2.5)  # until the first shards are saved
    process.kill()
    process.wait()
    num_begun = len(decoded(Path(run.log)))
    summary = finish(start(run))
    assert problems(Path(run.index), expected) == []
    assert summary["unchanged"] + summary["indexed"] == len(expected)
    assert summary["unchanged"] > 0
    num_twice = len(decoded(Path(run.log))) - len(expected)
    assert num_twice == num_begun - summary["unchanged"]


def test_driver_that_is_asked_to_stop_finishes_what_is_in_hand(run, expected):
    process = begun(run)
    process.send_signal(signal.SIGTERM)
    first = finish(process)
    num_begun = len(decoded(Path(run.log)))
    assert first["stopped"]
    assert first["searchable"] == first["indexed"] == num_begun < len(expected)
    second = finish(start(run))
    assert (second["unchanged"], second["stopped"]) == (num_begun, False)
    assert problems(Path(run.index), expected) == []
    assert sorted(decoded(Path(run.log))) == sorted(expected)


def test_video_that_kills_its_worker_twice_has_failed_and_is_not_tried_again(run, expected):
    name = "007.mp4"
    run = replace(run, deadly=name)
    summary = finish(start(run))
    assert decoded(Path(run.log)).count(name) == 2
    assert (summary["failed"], summary["indexed"]) == (1, len(expected) - 1)
    (line,) = [line for line in read_report(Path(run.index)) if line.outcome == "failed"]
    assert (line.key, line.reason) == (name, "it has killed two workers (WorkerCrashedError)")
    again = finish(start(run))
    assert (again["failed"], again["unchanged"]) == (1, len(expected) - 1)
    assert decoded(Path(run.log)).count(name) == 2


def test_straggler_is_tried_again_elsewhere(run, expected):
    options = {"min_seconds": 3.0, "factor": 3.0}
    run = replace(run, slow="009.mp4", slow_options=options)
    summary = finish(start(run), timeout=400)  # the first attempt takes longer
    assert summary["repeated"] == 1
    assert problems(Path(run.index), expected) == []


def test_object_store_that_is_too_small_for_the_frames_loses_none(run, expected):
    summary = finish(start(replace(run, frames_bytes=400 << 20)))
    assert summary["indexed"] == len(expected)
    assert problems(Path(run.index), expected) == []


BLIND = """
import os
def refuse(name):
    call = getattr(os, name)
    def refused(path, *rest, **more):
        if str(path).startswith({folder!r}):
            raise PermissionError(13, "Permission denied", str(path))
        return call(path, *rest, **more)
    setattr(os, name, refused)
refuse("open")
refuse("stat")
"""


def test_node_that_cannot_read_the_videos_has_another_read_them(run, videos, expected, tmp_path):
    """Its Python refuses to open them, as it would where the folder is not mounted."""
    patched = tmp_path / "patched"
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(BLIND.format(folder=str(videos)))
    nodes = SmallCluster(1)
    try:
        nodes.add_node(env_vars={"PYTHONPATH": os.pathsep.join([str(patched), str(PROJECT)])})
        summary = finish(start(replace(run, address=nodes.address)))
    finally:
        nodes.close()
    assert problems(Path(run.index), expected) == []
    assert (summary["indexed"], summary["failed"]) == (len(expected), 0)
    assert sorted(decoded(Path(run.log))) == sorted(expected)
