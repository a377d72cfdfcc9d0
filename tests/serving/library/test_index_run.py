"""Runs of the indexer as processes: their progress, and how they end."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from reelseek.serving.library.index_run import IndexRun
from tests.command_lines import PROJECT
from tests.serving.library.conftest import wait_until

PROGRESS = """
import json, signal, sys, time
print("a warning", file=sys.stderr)
print("{no JSON", file=sys.stderr)
print(json.dumps({"done": 3, "total": 4, "video": "a.mp4"}), file=sys.stderr, flush=True)
"""
WAITS = PROGRESS + "time.sleep(60)"
STOPS = (
    PROGRESS
    + """
signal.signal(signal.SIGTERM, lambda *_: (print('{"stopped": true}'), sys.exit(143)))
print(json.dumps({"done": 4}), file=sys.stderr, flush=True)
time.sleep(60)"""
)
SECOND_STOPS = (
    PROGRESS
    + """
received = []
signal.signal(signal.SIGTERM, lambda *_: received.append(1) if not received else sys.exit(7))
print(json.dumps({"done": 4}), file=sys.stderr, flush=True)
while True: time.sleep(0.05)"""
)


def run(program):
    changed = threading.Event()
    return IndexRun([], on_change=changed.set, command=[sys.executable, "-c", program]), changed


def test_progress_and_summary_are_read():
    done, changed = run(PROGRESS + "print('text'); print(json.dumps({'indexed': 4}))")
    assert wait_until(lambda: done.has_ended)
    assert changed.is_set()
    assert done.exit_code == 0
    assert done.progress == {"done": 3, "total": 4, "video": "a.mp4"}
    assert done.summary == {"indexed": 4}


def test_progress_is_seen_while_it_runs():
    running, _ = run(WAITS)
    assert wait_until(lambda: running.progress.get("done") == 3)
    assert not running.has_ended
    running.stop()
    assert running.exit_code == -signal.SIGTERM


def test_run_is_asked_to_stop_before_it_is_made_to():
    running, _ = run(STOPS)
    wait_until(lambda: running.progress.get("done") == 4)
    running.stop()
    assert (running.exit_code, running.summary) == (143, {"stopped": True})
    running, _ = run(SECOND_STOPS)
    wait_until(lambda: running.progress.get("done") == 4)
    running.stop(grace_seconds=0.2)
    assert running.exit_code == 7


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import sys; print('error: videos=/a: no such', file=sys.stderr); exit(2)", "videos=/a: "),
        (PROGRESS + "import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("raise SystemExit(3)", "ended with 3"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_reason_of_a_failure(program, reason):
    failed, _ = run(program)
    wait_until(lambda: failed.has_ended)
    assert reason in failed.reason


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can end a process with another")
def test_run_ends_with_the_process_that_started_it(tmp_path):
    program = f"""
import time
from reelseek.serving.library.index_run import IndexRun
run = IndexRun(["videos={tmp_path}", "index={tmp_path}/index"], on_change=lambda: None)
print(run._process.pid, flush=True)
time.sleep(60)"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    child = psutil.Process(int(parent.stdout.readline()))
    # It has said so once it is past the interpreter's start.
    wait_until(lambda: len(child.memory_maps()) > 60 if child.is_running() else True)
    time.sleep(0.3)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=5)
