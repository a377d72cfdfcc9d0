"""Kill -9, power loss, a full disk, a read-only disk, and readers beside a writer.

`REELSEEK_CRASHES=300` makes the random tests that many runs long; `REELSEEK_CRASHES_REPORT=FILE`
has them write what they counted there.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from reelseek.indexing.writer import IndexWriter
from tests.conftest import COLOURS, write_colours
from tests.indexing.crashes import (
    Reported,
    all_problems,
    answer_problems,
    copy_of,
    reading_problems,
)
from tests.indexing.power_loss import build_shim, crash_state, differences, marks, read_trace, trace
from tests.indexing.store_worker import (
    ALL,
    Line,
    Worker,
    lines_of,
    log_to,
    make_limits_small,
    settings,
    spans_of,
)

pytestmark = pytest.mark.long

PROJECT = Path(__file__).parents[2]
NUM_RUNS = int(os.environ.get("REELSEEK_CRASHES", "8"))
NUM_READERS = 4
STATES_PER_RUN = 1.6  # of power losses
WORKER = [sys.executable, "-m", "tests.indexing.store_worker"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def report(request):
    """Checks that nothing is wrong, and notes the counts where that is asked for."""

    def report(wrong, **counts):
        target = os.environ.get("REELSEEK_CRASHES_REPORT")
        if target:
            entry = {"test": request.node.name, **counts, "violations": len(wrong)}
            with open(target, "a") as file:
                file.write(json.dumps(entry | {"first_violations": wrong[:3]}) + "\n")
        assert not wrong, "\n".join(wrong[:10])

    return report


@pytest.fixture
def small_limits(monkeypatch):
    """Limits that are put back afterwards."""
    make_limits_small(monkeypatch.setattr)


def phase_of(reported):
    return "between" if reported.in_flight is None else reported.in_flight.operation


# Kill -9


def test_killed_writers_lose_nothing(tmp_path, report):
    draws = random.Random(0)
    log, folder = tmp_path / "log", tmp_path / "index"
    wrong, phases = [], Counter()
    temporary = tmp_path / "temporary"  # which killed workers do not tidy up
    temporary.mkdir()
    server = subprocess.Popen(
        [*WORKER, "serve"],
        cwd=PROJECT,
        env=ENVIRONMENT | {"TMPDIR": str(temporary)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with server:
        for number in range(NUM_RUNS):
            if number % 60 == 0:  # a new index now and then: its making may be interrupted too
                shutil.rmtree(folder, ignore_errors=True)
                log.unlink(missing_ok=True)
            kill_seconds = draws.choice([draws.uniform(0, 0.04), draws.uniform(0, 0.6)])
            task = {"folder": str(folder), "log": str(log), "seed": number + 1}
            task |= {"num_operations": 10_000, "kill_seconds": kill_seconds}
            server.stdin.write(json.dumps(task) + "\n")
            server.stdin.flush()
            status = json.loads(server.stdout.readline())["status"]
            if status != -9:
                wrong.append(f"run {number}: the worker ended with {status}")
            reported = Reported(lines_of(log))
            phases[phase_of(reported)] += 1
            copy = copy_of(folder, tmp_path / "copy")
            found = all_problems(copy, reported, power_loss=False)
            wrong += [f"run {number}, {phase_of(reported)}: {text}" for text in found]
        server.stdin.close()
    # The index itself, which was never repaired by a publishing in between.
    wrong += all_problems(folder, Reported(lines_of(log)), power_loss=False)
    report(wrong, runs=NUM_RUNS, kills_by_phase=dict(phases))


# Power loss


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return build_shim(tmp_path_factory.mktemp("shim"))


def test_power_loss_keeps_what_was_reported(tmp_path, shim, report):
    draws = np.random.default_rng(0)
    num_states = max(1, int(NUM_RUNS * STATES_PER_RUN))
    num_traces = max(2, num_states // 60)
    wrong, modes, phases = [], Counter(), Counter()
    for run in range(num_traces):
        folder, trace_path = tmp_path / f"index{run}", tmp_path / f"trace{run}"
        folder.mkdir()
        for process in range(2):  # the second takes over from the first
            seed = 1000 + 2 * run + process
            command = [*WORKER, "work", str(folder), str(tmp_path / f"log{run}"), str(seed), "45"]
            env = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
            done = trace(command, folder, trace_path=trace_path, shim=shim, env=env)
            assert done.returncode == 0, done.stderr
        operations = read_trace(trace_path)
        assert differences(operations, folder) == []
        said = [(number, Line.parse(text)) for number, text in marks(operations)]
        first = said[0][0]
        for number in range(run, num_states, num_traces):
            upto = int(draws.integers(first, len(operations)))
            mode = ("random", "drop", "random", "keep")[number // num_traces % 4]
            reported = Reported(line for position, line in said if position <= upto)
            modes[mode] += 1
            phases[phase_of(reported)] += 1
            state = tmp_path / "state"
            shutil.rmtree(state, ignore_errors=True)
            crash_state(operations, upto, state, draws, mode=mode)
            found = all_problems(state, reported, power_loss=mode != "keep")
            where = f"run {run}, {mode} after {upto} in {phase_of(reported)}"
            wrong += [f"{where}: {text}" for text in found]
    report(wrong, states=num_states, by_mode=dict(modes), by_phase=dict(phases))


# A full disk


@contextmanager
def disk_of(folder, size):
    """A file system of its own."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    with disk_of(tmp_path / "disk", "2m") as folder:
        yield folder


def free_bytes(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def leave_free(disk, num_bytes):
    """Fills the disk up to so many bytes."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    size = max(0, free_bytes(disk) - num_bytes)
    with ballast.open("wb", buffering=0) as file:
        written = 0
        while written < size:
            written += file.write(bytes(min(1 << 16, size - written)))


def is_clean(error):
    text = str(error)
    return type(error) is not OSError or error.errno is not None, text and "\n" not in text


def test_full_disk_loses_nothing(tmp_path, disk, small_limits, report):
    draws = random.Random(0)
    folder, log = disk / "index", []
    wrong, errors = [], Counter()
    worker = None
    for round_number in range(max(4, NUM_RUNS)):
        leave_free(disk, 4096 * draws.choice([0, 1, 2, 3, 5, 8, 13, 20, 30]))
        try:
            for _ in range(80):
                if worker is None:
                    worker = Worker(folder, log.append, seed=round_number + 1)
                worker.step()
        except Exception as error:
            operation = json.loads(log[-1])[1]
            errors[f"{operation}: {type(error).__name__}: {str(error)[:60]}"] += 1
            if not isinstance(error, (OSError, ValueError)) or "\n" in str(error):
                wrong.append(f"{operation} raised {type(error).__name__}: {error}")
        # As a kill at this moment would leave it, and with room again.
        reported = Reported(map(Line.parse, log))
        copy = copy_of(folder, tmp_path / "copy")
        wrong += [
            f"round {round_number}: {text}"
            for text in all_problems(copy, reported, power_loss=False)
        ]
        (disk / "ballast").unlink()
        try:  # The same writer goes on; or, now and then, the next one does.
            if worker is not None and draws.random() < 0.3:
                worker.writer.close()
                worker = None
            for operation in ("add", "save", "add", "publish", "delete", "add"):
                worker = worker or Worker(folder, log.append, seed=10_000 + round_number)
                worker.step(operation)
        except Exception as error:
            wrong.append(f"round {round_number}, with room again: {type(error).__name__}: {error}")
        reported = Reported(map(Line.parse, log))
        copy = copy_of(folder, tmp_path / "copy")
        wrong += [
            f"round {round_number}, with room again: {text}"
            for text in all_problems(copy, reported, power_loss=False)
        ]
    report(wrong, rounds=max(4, NUM_RUNS), errors=dict(errors))


# A read-only disk


def remount(disk, how):
    done = subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted anew here: {done.stderr}")


def test_read_only_disk_answers_and_is_left_as_it_is(tmp_path, disk, small_limits, report):
    folder, log, wrong = disk / "index", [], []
    for round_number in range(max(4, NUM_RUNS // 5)):
        worker = Worker(folder, log.append, seed=round_number + 1)
        for _ in range(20):
            worker.step()
        worker.step("publish")
        worker.writer.close()  # with what was added since the last save in the journal
        reported = Reported(map(Line.parse, log))
        remount(disk, "ro")
        try:
            wrong += reading_problems(folder, reported)
            wrong += answer_problems(folder, worker.known)
            with pytest.raises((ValueError, OSError)) as refused:
                IndexWriter(folder, settings())
            if not all(is_clean(refused.value)):
                wrong.append(f"round {round_number}: {refused.value!r}")
        finally:
            remount(disk, "rw")
        copy = copy_of(folder, tmp_path / "copy")
        found = all_problems(copy, reported, power_loss=False)
        wrong += [f"round {round_number}: {text}" for text in found]
    report(wrong, rounds=max(4, NUM_RUNS // 5))


# Readers beside a writer


class Held:
    """From when until when a key was in a state that a search may have seen, in nanoseconds."""

    def __init__(self, state, since):
        self.state, self.since = state, since
        self.until = self.settled = self.touched = float("inf")


def held_states(lines):
    """What the log of a writer that was never killed says of each key.

    A state ends when the operation that replaces it has returned; where that is `add`, when that is
    saved. It is settled, so that a search must find it, from the end of the next publishing on
    until the next operation on that key begins.
    """
    held, unsaved, begun = {}, [], {}
    for line in lines:
        if line.phase == "try":
            begun = dict.fromkeys(line.changes, line.at_ns)
            for key in line.changes:
                for each in held.get(key, [])[-1:]:
                    each.touched = min(each.touched, line.at_ns)
            continue
        if line.operation in ("save", "delete", "publish", "close"):
            for each in unsaved:
                each.until = line.at_ns
            unsaved = []
        if line.operation == "publish":
            for states in held.values():
                states[-1].settled = min(states[-1].settled, line.at_ns)
        for key, state in line.changes.items():
            before = held.setdefault(key, [])
            if before and line.operation == "add":
                unsaved.append(before[-1])
            elif before:
                before[-1].until = line.at_ns
                unsaved = [each for each in unsaved if each not in before]
                for each in before[:-1]:
                    each.until = min(each.until, line.at_ns)
            before.append(Held(state, begun[key]))
    return held


def search_problems(answer, held):
    """Of an answer `[level, k, start_ns, end_ns, [[key, content, note], ...]]`."""
    level, k, start, end, hits = answer
    wrong = []
    for key, content, note in hits:
        if not any(
            each.state == (content, note) and each.since <= end and start <= each.until
            for each in held.get(key, [])
        ):
            wrong.append(f"{key} as {content}, {note} was found, which it was not then")
    if k == ALL:
        found = {key for key, _, _ in hits}
        for key, states in held.items():
            for each in states:
                is_searchable = each.state is not None and not each.state[0].startswith("failed")
                is_settled = each.settled <= start and end <= each.touched
                if is_settled and is_searchable and key not in found:
                    wrong.append(f"{key} as {each.state} was not found, though published")
    return [f"a {level} search from {start} to {end}: {text}" for text in wrong]


def test_readers_beside_a_writer_see_no_torn_and_no_deleted_state(tmp_path, report):
    folder, log, stop = tmp_path / "index", tmp_path / "log", tmp_path / "stop"
    first = Worker(folder, log_to(log), seed=1, num_keys=200)
    for _ in range(50):
        first.step("add")
    first.step("publish")
    first.writer.close()
    answers = [tmp_path / f"read{n}" for n in range(NUM_READERS)]
    readers = [
        subprocess.Popen(
            [*WORKER, "read", str(folder), str(path), str(n), str(stop)],
            cwd=PROJECT,
            env=ENVIRONMENT,
        )
        for n, path in enumerate(answers)
    ]
    weights = {"add": 60, "duplicate": 2, "delete": 20, "update": 5, "rename": 3} | {
        "save": 5,
        "publish": 5,
    }
    options = json.dumps({"num_keys": 200, "weights": weights})
    try:
        while not all(path.exists() and path.stat().st_size for path in answers):
            assert all(reader.poll() is None for reader in readers)
            time.sleep(0.01)
        subprocess.run(
            [*WORKER, "work", str(folder), str(log), "2", str(30 * NUM_RUNS), options],
            cwd=PROJECT,
            env=ENVIRONMENT,
            check=True,
            timeout=3000,
        )
    finally:
        stop.touch()
        for reader in readers:
            reader.wait(timeout=60)
    lines = lines_of(log)
    held = held_states(lines)
    wrong, num_searches = [], 0
    for path in answers:
        for text in path.read_text().splitlines():
            answer = json.loads(text)
            if isinstance(answer, dict):
                wrong.append(f"{path.name}: {answer['wrong']}")
            else:
                num_searches += 1
                wrong += search_problems(answer, held)
    assert num_searches > NUM_READERS
    states = [each.state for key in held for each in held[key]]
    added = sum(len(spans_of(state[0])) for state in states if state is not None)
    kept = sum(len(spans_of(each[-1].state[0])) for each in held.values() if each[-1].state)
    report(wrong, searches=num_searches, segments_added=added, segments_deleted=added - kept)


# A new index

NUM_VIDEOS = 60


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    colours = [*COLOURS.values()]
    for i in range(NUM_VIDEOS):
        film = [colours[(i + n // 5) % 3] for n in range(10 + i)]
        write_colours(folder / f"{i:02d}.mp4", film, fps=2, size=(16, 16))
    return folder


@pytest.fixture(scope="module")
def killer():
    """A process that has loaded its libraries, and kills its forks; given a task, its lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.indexing.killed_runs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=ENVIRONMENT,
    )

    def run(task, num_lines):
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(num_lines)]
        assert all(lines), "it has ended with an error"
        return [json.loads(line) for line in lines]

    with process:
        yield run
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")
@pytest.mark.parametrize("num_shards", [1, 3])
def test_new_index_keeps_what_was_counted_and_encodes_no_frame_of_it_again(
    tmp_path, videos, killer, report, num_shards
):
    """60 videos, of which the first 32 wait for each other before scenes are cut."""
    num_runs = max(3, NUM_RUNS // 6) if num_shards == 1 else 2
    parts = np.random.default_rng(0).uniform(0.02, 1.0, num_runs).tolist()
    task = {"videos": str(videos), "work": str(tmp_path), "parts": parts, "shards": num_shards}
    runs = killer(task, num_runs + 1)
    wrong = [f"after {run['delay']:.2f} s: {text}" for run in runs for text in run["wrong"]]
    counts = sorted(run["counted"] for run in runs)
    assert any(0 < count < NUM_VIDEOS for count in counts), "no run was killed in the middle"
    report(wrong, runs=num_runs, counted=counts)
