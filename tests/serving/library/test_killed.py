"""A library process that is killed while it indexes."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.command_lines import PROJECT
from tests.conftest import COLOURS
from tests.serving.library.conftest import wait_until
from tests.serving.library.test_library import keys

NUM_VIDEOS = 30


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone can end a process with another")
def test_killed_library_loses_nothing(start, colour_index, write_video, tmp_path):
    films = tmp_path / "films"
    for i in range(NUM_VIDEOS):
        write_video(f"{i:02d}.mp4", [COLOURS["red"]] * (5 + i), folder=films)
    program = f"""
import os, sys, time
from functools import partial
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.serving.library.index_run import IndexRun
from reelseek.serving.library.library import Library

command = [sys.executable, "-m", "tests.serving.library.colour_indexer", str(os.getpid())]
library = Library(
    compose(ServeConfig, ["index={colour_index.folder}", "videos={films}"]),
    index_run=partial(IndexRun, command=command),
)
while True:
    state = library.status()["indexing"]
    print(state["done"], state["state"], flush=True)
    time.sleep(0.05)
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    try:
        num_done = 0
        for line in killed.stdout:
            num_done = int(line.split()[0])
            if num_done >= 3:
                break
        family = psutil.Process(killed.pid).children(recursive=True)
    finally:
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        killed.stdout.close()
    assert 3 <= num_done < NUM_VIDEOS
    assert family
    wait_until(lambda: not any(map(is_alive, family)), seconds=10)
    library = start(films)
    wait_until(lambda: library.status()["indexing"]["state"] == "idle" and keys(colour_index))
    assert len(keys(colour_index)) == NUM_VIDEOS
    # What was counted is not decoded again.
    assert len(colour_index.decoded) <= NUM_VIDEOS - num_done


def is_alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
