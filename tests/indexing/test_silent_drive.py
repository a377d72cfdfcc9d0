"""A network drive that does not answer, and what else is no file to be read: the run goes on."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from reelseek.indexing.sources.collection import collect_videos
from reelseek.indexing.sources.diff import compute_diff
from reelseek.vision import (
    DecodePool,
    FailedVideo,
    FrameSettings,
    VideoDecodeError,
    WorkerLimits,
    read_content,
)
from tests.command_lines import PROJECT
from tests.conftest import COLOURS
from tests.indexing.conftest import SAMPLER
from tests.indexing.silent_drive import silent_drive

# Indexes what it is told by JSON, in a process of its own, which must come to its end.
PROGRAM = """
import json, sys
from pathlib import Path
from reelseek.indexing import IndexSettings, update_index
from reelseek.indexing.sources.collection import read_source
from tests.conftest import ColourClip, tokenize_colours
from tests.indexing.conftest import SAMPLER
from reelseek.vision import (
    DecodePool,
    DualEncoder,
    FrameEncoder,
    FrameSettings,
    ModelSpec,
    Preprocessing,
    WorkerLimits,
)

if __name__ == "__main__":
    videos, folder, settings = json.loads(sys.stdin.read())
    settings = IndexSettings(**settings)
    preprocessing = Preprocessing((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    model = DualEncoder(ModelSpec("colours"), ColourClip().eval(), tokenize_colours, 8, 3,
                        preprocessing, settings.fingerprint)
    encoder = FrameEncoder(model, device="cpu", precision="fp32")
    pool = DecodePool(FrameSettings(SAMPLER, preprocessing), num_workers=2,
                      limits=WorkerLimits(timeout_seconds=3))
    with pool:
        summary = update_index(Path(folder), [read_source(videos)], settings=settings,
                               encoder=encoder, pool=pool, timeout_seconds=3)
    print(json.dumps(vars(summary)))
"""


@pytest.fixture
def films(write_video, tmp_path):
    for name, colour in zip(("a", "b", "silent", "z"), [*COLOURS.values()] * 2, strict=False):
        num_frames = 24 if name == "z" else 20  # not a copy of the first
        write_video(f"{name}.mp4", [colour] * num_frames, fps=2, folder=tmp_path / "films")
    return tmp_path / "films"


@pytest.fixture
def drive(films, tmp_path):
    with silent_drive(films, tmp_path / "drive") as drive:
        yield drive


def test_run_over_a_file_that_does_not_answer_names_it_and_ends(
    drive, tmp_path, colour_settings, colour_index
):
    task = [str(drive), str(colour_index.folder), asdict(colour_settings)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(task),
        capture_output=True,  # until all have let go of these pipes
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["indexed"], summary["failed"], summary["searchable"]) == (3, 1, 3)
    line = colour_index.report()["silent.mp4"]
    assert line["reason"] == "its file did not answer for 3 seconds"
    assert colour_index.keys() == ["a.mp4", "b.mp4", "z.mp4"]


def test_file_that_was_indexed_and_does_not_answer_now_stays(
    films, tmp_path, colour_index, colour_encoder
):
    drive = tmp_path / "drive"
    shutil.copytree(films, drive)  # with the files' times
    colour_index.update(drive)
    assert colour_index.update(drive).unchanged == 4
    os.utime(films / "silent.mp4", ns=(1, 1))  # so that it is to be read
    settings = FrameSettings(SAMPLER, colour_encoder.preprocessing)
    limits = WorkerLimits(timeout_seconds=2)
    with (
        silent_drive(films, drive),
        DecodePool(settings, num_workers=1, limits=limits) as pool,
    ):
        summary = colour_index.update(drive, pool=pool)
    assert (summary.unchanged, summary.searchable) == (3, 4)
    assert colour_index.keys() == ["a.mp4", "b.mp4", "silent.mp4", "z.mp4"]
    reason = colour_index.report()["silent.mp4"]["reason"]
    assert reason.startswith("its file did not answer for 2 seconds")


def test_drive_that_is_away_is_not_waited_for(drive, films):
    items = collect_videos(str(drive))
    (films / ".away").touch()
    began = time.monotonic()
    changes = compute_diff(items, {}, timeout_seconds=1)
    assert len(changes.missing) == 4
    assert changes.examine == []
    assert time.monotonic() - began < 60


# What is no file


@pytest.fixture
def specials(films):
    os.mkfifo(films / "pipe.mp4")
    (films / "folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(films)  # since a socket's path must be short
        listener.bind("socket.mp4")
        os.chdir(before)
        yield {"pipe": "a FIFO", "folder": "a folder", "socket": "a socket"}


def test_what_is_no_file_is_refused_at_once(films, specials):
    for name, kind in specials.items():
        with pytest.raises(VideoDecodeError, match=f"it is {kind}, not a file"):
            read_content(films / f"{name}.mp4")
    with pytest.raises(VideoDecodeError, match="it is a device, not a file"):
        read_content("/dev/zero")


def test_pipe_that_takes_a_films_place_after_it_was_listed_is_not_waited_for(
    films, colour_index, specials
):
    settings = FrameSettings(SAMPLER, colour_index.encoder.preprocessing)
    with DecodePool(settings, num_workers=1, limits=WorkerLimits(timeout_seconds=100)) as pool:
        videos = [(path.name, path) for path in sorted(films.glob("*.mp4"))]
        decoded = dict(pool.decode(videos, admit=lambda tag, content: None))
    assert decoded == {
        f"{name}.mp4": FailedVideo(f"it is {kind}, not a file") for name, kind in specials.items()
    }
