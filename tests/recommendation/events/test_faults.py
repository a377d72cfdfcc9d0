"""What is acknowledged stays, once: several writers, kills, power losses and full disks."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reelseek.recommendation.events.log import EventLog, EventsUnavailable
from reelseek.recommendation.events.store import FILE_NAME, EventStore
from tests.command_lines import PROJECT
from tests.indexing.power_loss import build_shim, crash_state, marks, read_trace, trace
from tests.recommendation.events.event_writer import make_event

WRITER = [sys.executable, "-m", "tests.recommendation.events.event_writer"]


def ids_in(folder: Path) -> list[str]:
    log = EventLog(folder)
    found = [each.event.event_id for each in log.read(limit=10**6)]
    log.close()
    with closing(sqlite3.connect(folder / FILE_NAME)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return found


def test_killed_writers_lose_nothing_acknowledged(tmp_path):
    """Two writers at once, each killed and replaced at random moments, who also send the same
    ids."""
    draws = random.Random(3)
    folder = tmp_path / "events"
    acknowledged: set[str] = set()
    for round_number in range(3):
        outputs = [tmp_path / f"{round_number}-{writer}" for writer in range(2)]
        writers = [
            subprocess.Popen([*WRITER, folder, output.name], stdout=output.open("wb"), cwd=PROJECT)
            for output in outputs
        ]
        while not all(output.stat().st_size for output in outputs):
            time.sleep(0.01)
            assert all(writer.poll() is None for writer in writers)
        for writer in writers:
            time.sleep(0.2 * draws.random())
            writer.kill()
        for writer in writers:
            writer.wait()
        for output in outputs:
            lines = output.read_text().split("\n")[:-1]  # without one that was cut off
            acknowledged.update(*map(json.loads, lines))
        counts = Counter(ids_in(folder))
        assert set(counts.values()) == {1}
        assert acknowledged <= counts.keys()
    assert len(acknowledged) > 100


def test_an_id_is_stored_once_by_several_processes(tmp_path):
    folder = tmp_path / "events"
    writers = [
        subprocess.Popen(
            [*WRITER, folder, name, "40"], stdout=subprocess.PIPE, text=True, cwd=PROJECT
        )
        for name in "ab"
    ]
    outputs = [writer.communicate(timeout=60)[0] for writer in writers]
    acknowledged = {
        each for output in outputs for line in output.split("\n")[:-1] for each in json.loads(line)
    }
    found = ids_in(folder)
    assert sorted(found) == sorted(acknowledged)
    assert sum(each.startswith("shared-") for each in found) == 40


def test_readers_beside_writers_miss_nothing(tmp_path):
    """A reader goes on by positions while two processes write: it sees what is there at the end."""
    folder = tmp_path / "events"
    log = EventLog(folder)
    writers = [
        subprocess.Popen([*WRITER, folder, name, "40"], stdout=subprocess.DEVNULL, cwd=PROJECT)
        for name in "ab"
    ]
    seen, position = [], 0
    while True:
        is_last = all(writer.poll() == 0 for writer in writers)
        found = log.read(after=position, limit=7)
        if is_last and not found:
            break
        seen += [each.event.event_id for each in found]
        position = found[-1].log_position if found else position
    log.close()
    assert seen == ids_in(folder)
    assert len(seen) > 500


def test_a_power_loss_loses_nothing_acknowledged(tmp_path):
    shim = build_shim(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    done = trace(
        [*WRITER, str(folder / "events"), "a", "30"],
        folder,
        trace_path=tmp_path / "trace",
        shim=shim,
        env={"PYTHONPATH": str(PROJECT)},
    )
    assert done.returncode == 0, done.stderr
    operations = read_trace(tmp_path / "trace")
    acknowledgements = marks(operations)
    assert len(acknowledgements) == 30
    draws = np.random.default_rng(0)
    first = acknowledgements[0][0]
    for number, upto in enumerate([first, *draws.integers(first, len(operations), size=25)]):
        state = tmp_path / f"state-{number}"
        crash_state(operations, int(upto), state, draws)
        expected = {
            each for place, text in acknowledgements if place <= upto for each in json.loads(text)
        }
        counts = Counter(ids_in(state / "events"))
        assert expected <= counts.keys()
        assert set(counts.values()) <= {1}
        shutil.rmtree(state)


def check_full_disk(output: str) -> None:
    told = json.loads(output)
    assert told["num_refused"] == 10
    assert told["still_refused"] == []
    assert told["num_read"] >= 20
    assert sorted(told["in_log"]) == sorted(told["stored"])


def test_a_file_that_may_not_grow(tmp_path):
    command = [sys.executable, "-m", "tests.recommendation.events.full_disk", tmp_path, "limit"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.returncode == 0, done.stderr
    check_full_disk(done.stdout)


def test_a_full_disk(tmp_path):
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=600k tmpfs "$0" && exec "$@"'
    if (
        shutil.which("unshare") is None
        or subprocess.run([*mount, script, tmp_path, "true"], capture_output=True).returncode
    ):
        pytest.skip("a small disk cannot be mounted here")
    command = [sys.executable, "-m", "tests.recommendation.events.full_disk", tmp_path, "ballast"]
    done = subprocess.run(
        [*mount, script, tmp_path, *command],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    check_full_disk(done.stdout)


def test_full_is_refused_and_none_of_the_request_stored(tmp_path, monkeypatch):
    """SQLite's own error for a full disk, in the middle of a request."""
    log = EventLog(tmp_path / "events")
    log.append([make_event("first")])
    log.close()

    class SmallStore(EventStore):
        def __init__(self, folder):
            super().__init__(folder)
            self._connection.execute("PRAGMA max_page_count = 20")

    monkeypatch.setattr("reelseek.recommendation.events.log.EventStore", SmallStore)
    with pytest.raises(EventsUnavailable, match="No space left on device"):
        log.append([make_event(f"{i}") for i in range(1000)])
    assert [each.event.event_id for each in log.read()] == ["first"]
    monkeypatch.undo()
    log.close()
    assert log.append([make_event(f"{i}") for i in range(1000)]).accepted == 1000
    log.close()
