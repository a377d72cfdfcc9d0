import os
import time

import pytest

import reelseek.indexing.sources.mounts
from reelseek.indexing.sources import killable
from reelseek.indexing.sources.killable import map_killably
from reelseek.indexing.sources.mounts import SilentMounts, may_hang

MOUNTS = """\
/dev/vda / ext4 rw 0 0
nas:/films /mnt/my\\040nas {kind} rw 0 0
proc /proc proc rw 0 0
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Lets the system list other file systems than it has."""

    def write(text):
        (tmp_path / "mounts").write_text(text)
        monkeypatch.setattr(reelseek.indexing.sources.mounts, "_MOUNTS", tmp_path / "mounts")

    return write


@pytest.fixture(params=[True, False])
def process_or_not(request, monkeypatch):
    monkeypatch.setattr(killable, "may_hang", lambda: request.param)
    return request.param


def work(item):
    if item == "wrong":
        raise ValueError("of the function")
    if item == "hangs":
        time.sleep(1000)
    if item == "busy":
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            pass
    if item == "dies":
        os._exit(3)
    return item.upper(), os.getpid()


def call(*items, seconds=60):
    return list(map_killably(work, items, timeout_seconds=seconds))


def test_results_and_errors_come_in_order(process_or_not):
    a, error, b = call("a", "wrong", "b")
    assert (a[0], b[0]) == ("A", "B")
    assert a[1] == b[1] and (a[1] != os.getpid()) is process_or_not
    assert type(error) is ValueError and str(error) == "of the function"


def test_nothing_to_do_starts_no_process(process_or_not):
    assert call() == []


@pytest.fixture
def always_a_process(monkeypatch):
    monkeypatch.setattr(killable, "may_hang", lambda: True)


def test_call_that_hangs_is_given_up_and_the_others_are_made(always_a_process):
    a, hung, b = call("a", "hangs", "b", seconds=2)
    assert (a[0], b[0]) == ("A", "B")
    assert isinstance(hung, TimeoutError)
    assert hung.strerror == "it did not answer for 2 seconds"


def test_file_system_that_hangs_is_given_up(always_a_process):
    began = time.monotonic()
    answers = call(*["hangs"] * 50, seconds=1)
    assert {type(answer) for answer in answers} == {TimeoutError} and len(answers) == 50
    assert answers[-1].strerror == "others beside it did not answer"
    assert time.monotonic() - began < 30  # not 50 seconds


def test_call_that_takes_long_and_works_is_not_given_up(always_a_process):
    (busy,) = call("busy", seconds=0.3)
    assert busy[0] == "BUSY"


def test_process_that_dies_costs_its_own_call(always_a_process):
    a, died, b = call("a", "dies", "b")
    assert (a[0], b[0]) == ("A", "B")
    assert isinstance(died, OSError)


def test_no_process_is_left_when_the_caller_goes_away(always_a_process):
    answers = map_killably(work, ["a", "hangs"], timeout_seconds=60)
    _, process = next(answers)
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("ext4", False), ("fuseblk", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True)],
)
def test_networks_and_users_file_systems_may_hang(mounts, kind, expected):
    mounts(MOUNTS.format(kind=kind))
    assert may_hang() is expected


def test_system_that_lists_no_mounts(tmp_path, monkeypatch):
    monkeypatch.setattr(reelseek.indexing.sources.mounts, "_MOUNTS", tmp_path / "none")
    assert not may_hang()


def test_file_system_is_given_up_after_some_files_behind_each_other(mounts, tmp_path):
    mounts(MOUNTS.format(kind="nfs"))
    away, here = tmp_path.__class__("/mnt/my nas/a/b.mp4"), tmp_path / "a.mp4"
    silent = SilentMounts()
    for _ in range(3):
        silent.note(away, is_silent=True)
    silent.note(here, is_silent=False)
    assert not silent.is_given_up(away)
    silent.note(away, is_silent=False)
    for _ in range(3):
        silent.note(away.with_name("c"), is_silent=True)
    assert not silent.is_given_up(away)
    silent.note(away, is_silent=True)
    assert silent.is_given_up(away) and silent.is_given_up(away.parent)
    assert not silent.is_given_up(here)
