"""Videos in a bucket, which the nodes of a cluster fetch -> the index that one machine makes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from reelseek.indexing.cluster.connection import connect
from reelseek.indexing.cluster.fetching import FetchActor, FetchSettings, claim_folder
from reelseek.indexing.remote.fetching import RemoteOptions
from reelseek.indexing.remote.sources import read_remote_sources
from reelseek.indexing.store.report import read_report
from tests.indexing.cluster.colour_runs import (
    ColourRun,
    decoded,
    finish,
    index_here,
    index_in_turn,
    problems,
    rows_of,
    start,
)
from tests.indexing.cluster.conftest import SmallCluster, processes, wait_until

QUICK = {"attempts": 8, "timeout_seconds": 1.0, "parallel": 4}


@pytest.mark.cluster
def test_bucket_gives_the_rows_of_one_machine_and_only_what_changed_is_fetched_again(
    proxied, bucket, films, tmp_path
):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    for film in films:
        bucket.put(f"films/{film.name}", film)
    bucket.put("films/copy.mp4", films[3])
    bucket.put("films/broken.mp4", b"no video at all")
    url, index, copies = f"{bucket.url}/films", tmp_path / "index", tmp_path / "copies"
    index_here(url, tmp_path / "one")
    expected = rows_of(tmp_path / "one")
    # Room for the largest and a little more: what is decoded makes room for what is fetched.
    quick = QUICK | {"disk_bytes": max(film.stat().st_size for film in films) + 1000}
    run = ColourRun(
        *(url, str(index), "", str(tmp_path / "log")),
        remote_options=quick,
        fetch_folder=str(copies),
    )
    kinds = iter(["", "fail", "", "cut", "", "", ""] * 1000)
    proxied.before_answer = lambda method, path: next(kinds)
    with connect(None):
        summaries = index_in_turn([run, run])
        first = next(summaries)
        assert list(copies.glob("*/")) == []
        assert proxied.faults["fail"] and proxied.faults["cut"]
        failed = {line.key: line.reason for line in read_report(index) if line.outcome != "ok"}
        assert failed.keys() == {"broken.mp4"}, failed
        assert problems(index, expected) == []
        assert (first["indexed"], first["failed"], first["repeated"]) == (13, 1, 0)
        assert len(decoded(Path(run.log))) == 13  # the copy is not, the broken file is looked at

        proxied.before_answer = lambda method, path: ""
        proxied.requests.clear()
        bucket.put("films/00.mp4", films[9])  # of the same content as another
        bucket.put("films/01.mp4", films[1].read_bytes() + bytes(64))
        again = next(summaries)
    assert (again["unchanged"], again["indexed"], again["failed"]) == (11, 2, 1)
    assert len(decoded(Path(run.log))) == 14
    assert proxied.requests["GET"] == 1 + 2  # a page, and what changed
    assert all(line.outcome != "missing" for line in read_report(index))


def actor_and_items(bucket, films, folder, *, disk_bytes):
    for film in films:
        bucket.put(f"films/{film.name}", film)
    options = RemoteOptions(**QUICK | {"disk_bytes": disk_bytes})
    (source,) = read_remote_sources([f"{bucket.url}/films"], options)
    return FetchActor(FetchSettings("run", options, folder), "own"), list(source.items())


def test_second_attempt_at_a_video_never_waits_for_room_on_its_node(bucket, films, tmp_path):
    sizes = [film.stat().st_size for film in films[:2]]
    actor, (first, second) = actor_and_items(
        bucket, films[:2], tmp_path / "copies", disk_bytes=sum(sizes) - 1
    )
    copy = actor.fetch_now(first)
    assert copy.path.read_bytes() == films[0].read_bytes()
    assert not actor.fetch_now(second).path.exists()
    actor.release(first)
    assert not copy.path.exists()
    assert actor.fetch_now(second).path.exists()
    actor.close()
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {"claiming"}


def test_second_attempt_at_a_video_that_changed_is_declined(bucket, films, tmp_path):
    actor, (item,) = actor_and_items(bucket, films[:1], tmp_path / "copies", disk_bytes=1 << 20)
    bucket.put(f"films/{films[0].name}", films[1])
    assert not actor.fetch_now(item).path.exists()
    bucket.put(f"films/{films[0].name}", films[0])
    assert actor.fetch_now(item).path.read_bytes() == films[0].read_bytes()
    actor.close()


def test_copies_that_killed_runs_left_are_deleted_and_those_of_others_stay(tmp_path):
    killed, running = claim_folder(tmp_path / "killed"), claim_folder(tmp_path / "running")
    for name in ("killed", "running"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"x")
    killed.release()  # as the system does
    own = claim_folder(tmp_path / "own")
    assert not (tmp_path / "killed").exists()
    assert (tmp_path / "running" / "a.mp4").exists()
    running.release()
    own.release()


def test_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.getuid", lambda: -1)
    with pytest.raises(PermissionError, match=r"another user's; give ray\.fetch_folder"):
        claim_folder(tmp_path / "own")


@pytest.mark.cluster
@pytest.mark.cluster_failures
def test_node_without_a_way_to_the_bucket_and_a_killed_fetcher_cost_no_video(
    bucket, films, tmp_path
):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    for film in films:
        bucket.put(f"films/{film.name}", film)
    url = f"{bucket.url}/films"
    index_here(url, tmp_path / "one")
    run = ColourRun(
        *(url, str(tmp_path / "index"), "", str(tmp_path / "log")),
        seconds=0.5,
        remote_options=QUICK | {"attempts": 2},
        fetch_folder=str(tmp_path / "copies"),
    )
    nodes = SmallCluster(1)
    try:
        nodes.add_node(env_vars={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
        process = start(replace(run, address=nodes.address))
        wait_until(lambda: len(decoded(Path(run.log))) >= 4 or process.poll() is not None)
        for victim in processes("FetchActor"):
            victim.kill()
        summary = finish(process)
    finally:
        nodes.close()
    assert problems(Path(run.index), rows_of(tmp_path / "one")) == []
    assert (summary["indexed"], summary["failed"]) == (len(films), 0)
    num_twice = len(decoded(Path(run.log))) - len(films)
    assert num_twice <= summary["repeated"]


def test_many_videos_can_be_the_first_of_a_node(bucket, films, tmp_path):
    actor, items = actor_and_items(bucket, films, tmp_path / "copies", disk_bytes=1 << 20)
    with ThreadPoolExecutor(8) as executor:
        copies = list(executor.map(actor.fetch_now, items))
    assert all(copy.path.exists() for copy in copies)
    actor.close()
