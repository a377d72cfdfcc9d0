import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reelseek.serving.run_folder import run_folder
from tests.command_lines import PROJECT

PROGRAM = """
import time
from reelseek.serving.run_folder import run_folder
with run_folder() as folder:
    (folder / "picture.png").write_bytes(b"of somebody")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = []

    def start() -> tuple[subprocess.Popen, Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=PROJECT,
            env={"TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_is_for_its_user_alone_and_goes_with_the_service(start):
    with run_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_what_a_killed_service_has_left_is_removed_by_the_next(start, tmp_path):
    (killed, left), (_, live) = start(), start()
    (tmp_path / "reelseek-serve-starting").mkdir()  # another one, which has no lock yet
    (tmp_path / "reelseek-serve-link").symlink_to(live)
    killed.kill()
    killed.wait()
    assert (left / "picture.png").exists()
    with run_folder() as folder:
        assert not left.exists()
        assert (live / "picture.png").exists()
        assert {path.name for path in tmp_path.iterdir()} == {
            *(folder.name, live.name),
            *("reelseek-serve-starting", "reelseek-serve-link"),
        }
