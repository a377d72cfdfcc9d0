"""Videos in a bucket, which the nodes of a cluster fetch -> the index that one machine makes."""

from dataclasses import replace
from pathlib import Path

import pytest

from reelseek.indexing.cluster.connection import connect
from reelseek.indexing.store.report import read_report
from tests.indexing.cluster.colour_runs import (
    ColourRun,
    decoded,
    index_here,
    index_on_cluster,
    problems,
    rows_of,
)

pytestmark = pytest.mark.cluster

QUICK = {"attempts": 8, "timeout_seconds": 1.0, "parallel": 4}


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
        first = index_on_cluster(run)
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
        again = index_on_cluster(replace(run, log=str(tmp_path / "second")))
    assert (again["unchanged"], again["indexed"], again["failed"]) == (11, 2, 1)
    assert len(decoded(tmp_path / "second")) == 1
    assert proxied.requests["GET"] == 1 + 2 + 1  # a page, what changed, and what failed
    assert all(line.outcome != "missing" for line in read_report(index))
