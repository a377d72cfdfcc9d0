"""`python -m indexing` that is stopped in the middle, in each way that there is."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

import reelseek.indexing.__main__
from reelseek.indexing import IndexReader
from reelseek.indexing.__main__ import _say_failures
from reelseek.indexing.store.report import ReportLine, write_report
from tests.command_lines import PROJECT, run_in_this_process
from tests.conftest import COLOURS

pytestmark = pytest.mark.long

NUM_VIDEOS = 60
MODEL = "model=mini_fast"  # which loads in a third of the time
NICENESS = 1  # or the tests beside it would take all of the processor


@pytest.fixture
def videos(write_video, tmp_path):
    """Many files of one film, each with an empty box of another length at its end."""
    folder = tmp_path / "videos"
    film = write_video(
        "film.mp4", list(COLOURS.values()) * 16, fps=4, size=(320, 240), folder=tmp_path
    ).read_bytes()
    folder.mkdir()
    for i in range(NUM_VIDEOS):
        size = 8 + i
        box = size.to_bytes(4, "big") + b"free" + bytes(i)
        (folder / f"{i:03d}.mp4").write_bytes(film + box)
    return folder


class Indexing:
    """A run in a process of its own."""

    def __init__(self, videos, index):
        self.index = index
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "indexing",
                f"videos={videos}",
                f"index={index}",
                f"niceness={NICENESS}",
                MODEL,
            ],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},  # tells where it was when aborted
        )
        self.family = []

    def wait_until_videos_are_done(self):
        deadline = time.monotonic() + 240  # a worker that hangs is replaced after 120
        while not self._has_done_videos():
            assert self.process.poll() is None, self.process.communicate()
            if time.monotonic() > deadline:
                self.process.send_signal(signal.SIGABRT)
                pytest.fail(f"nothing is done: {self.process.communicate()}")
            time.sleep(0.02)
        time.sleep(0.1)  # the record that was just begun is whole by now
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def _has_done_videos(self):
        """Whether some are in the journal, or wait for scenes to be cut: more than are in hand."""
        journal = self.index / "unsaved.journal"
        if journal.is_file() and journal.stat().st_size:
            return True
        return len(list(self.index.glob("unfinished/*.frames"))) > 4

    def end(self):
        """Returns the exit code and the summary, and checks that no process is left."""
        stdout, stderr = self.process.communicate(timeout=300)
        assert "Traceback" not in stderr
        deadline = time.monotonic() + 20
        while not all(map(is_removed, self.family)):
            assert time.monotonic() < deadline, "processes are left"
            time.sleep(0.02)
        lines = stdout.splitlines()
        return self.process.returncode, json.loads(lines[-1]) if lines else None


def is_removed(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def start(videos, tmp_path):
    """Starts a run; what is left of it when the test ends is killed."""
    runs = []

    def start_run():
        runs.append(Indexing(videos, tmp_path / "index"))
        return runs[-1]

    yield start_run
    for run in runs:
        run.process.kill()
        for process in run.family:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def assert_steps_back(run):
    """For other processes, such as searches."""
    assert run.family
    expected = min(psutil.Process().nice() + NICENESS, 19)
    for process in (psutil.Process(run.process.pid), *run.family):
        # Each thread has its own, from the one that started it; some end meanwhile.
        niceness = set()
        for thread in process.threads():
            with suppress(psutil.NoSuchProcess):
                niceness.add(psutil.Process(thread.id).nice())
        assert niceness == {expected}


@pytest.mark.model
def test_run_that_is_stopped_keeps_what_is_done_and_the_next_goes_on(start, videos, tmp_path):
    num_done = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        run = start()
        run.wait_until_videos_are_done()
        assert_steps_back(run)
        run.process.send_signal(number)
        code, summary = run.end()
        assert code == 128 + number
        assert summary["stopped"]
        assert (summary["unchanged"], summary["failed"]) == (num_done, 0)
        assert summary["indexed"] > 0
        num_done += summary["indexed"]
        assert summary["searchable"] == num_done < NUM_VIDEOS
    run = start()
    run.wait_until_videos_are_done()
    run.process.kill()
    code, _ = run.end()
    assert code == -signal.SIGKILL
    done = run_in_this_process(
        reelseek.indexing.__main__, "index", f"videos={videos}", f"index={run.index}", MODEL
    )
    summary = done.metrics
    assert not summary["stopped"]
    assert summary["searchable"] == summary["unchanged"] + summary["indexed"] == NUM_VIDEOS
    assert summary["unchanged"] > num_done  # the killed run has left something
    reader = IndexReader(tmp_path / "index")
    assert reader.manifest.num_videos == NUM_VIDEOS
    reader.close()
    report = (tmp_path / "index" / "report.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in report] == sorted(p.name for p in videos.iterdir())
    assert {json.loads(line)["decoder"] for line in report} <= {"decord", "pyav"}


def test_first_failures_are_listed_with_their_reasons(tmp_path, capsys):
    def line(number, action, reason):
        return ReportLine(f"{number}\x1b[31m.mp4", "/v", action, "failed", reason, "", 0, 0.0)

    lines = [line(0, "indexed", ""), *(line(i, "failed", f"reason {i}") for i in range(1, 13))]
    write_report(tmp_path, lines)
    _say_failures(tmp_path, num_failed=12)
    *said, last = capsys.readouterr().err.splitlines()
    assert said == [f"failed: {i}\\x1b[31m.mp4: reason {i}" for i in range(1, 11)]
    assert last == f"12 failed: see {tmp_path / 'report.jsonl'}"
    _say_failures(tmp_path / "none", num_failed=2)
    assert capsys.readouterr().err.startswith("2 failed: see ")
