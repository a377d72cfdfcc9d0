"""The one test of `engine=ray` that is short; the others are in `test_failures.py`."""

from dataclasses import replace

import pytest

from reelseek.indexing.cluster.connection import connect
from tests.indexing.cluster.colour_runs import (
    ColourRun,
    decoded,
    index_here,
    index_on_cluster,
    make_videos,
    problems,
    rows_of,
)

pytestmark = pytest.mark.cluster


def test_one_node_gives_the_rows_of_one_machine_and_its_next_run_only_what_is_new(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    videos = make_videos(tmp_path / "videos", 20)
    (videos / "copy.mp4").write_bytes((videos / "003.mp4").read_bytes())
    (videos / "broken.mp4").write_bytes(b"no video at all")
    index_here(videos, tmp_path / "one")
    expected = rows_of(tmp_path / "one")
    index, log = tmp_path / "index", tmp_path / "log"
    run = ColourRun(str(videos), str(index), address="", log=str(log))
    with connect(None):
        first = index_on_cluster(run)
        again = index_on_cluster(replace(run, log=str(tmp_path / "second")))
    assert problems(index, expected) == []
    assert (first["indexed"], first["failed"], first["repeated"]) == (21, 1, 0)
    assert len(decoded(log)) == 21  # the copy is not decoded, the broken file is looked at
    assert (again["unchanged"], again["indexed"], again["failed"]) == (21, 0, 1)
    assert decoded(tmp_path / "second") == []
