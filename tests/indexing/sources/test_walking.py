import os
import socket

import pytest

from reelseek.indexing.sources.walking import PassedOver, walk_folder

SUFFIXES = {".mp4", ".mkv"}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_are_found_at_all_depths_and_hidden_ones_are_not(tmp_path):
    touch(tmp_path, "b.MP4", "a.mkv", "sub/deep/c.mp4", ".hidden.mp4", ".trash/d.mp4")
    walk = walk_folder(tmp_path, SUFFIXES)
    assert walk.files == ["a.mkv", "b.MP4", "sub/deep/c.mp4"]
    assert (walk.unreadable, walk.dangling, str(walk.passed_over)) == ({}, [], "")


def test_what_is_passed_over_is_counted_by_its_reason(tmp_path):
    touch(tmp_path, "a.mp4", *(f"photos/{i}.JPG" for i in range(11)))
    touch(tmp_path, "b.mp4.part", "c.crdownload", "notes.txt", "subtitles.srt", "noend")
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        directory = os.open(tmp_path, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{directory}/s.mkv")  # paths of sockets may not be long
        os.close(directory)
    walk = walk_folder(tmp_path, SUFFIXES)
    assert walk.files == ["a.mp4"]
    assert str(walk.passed_over) == (
        "11 photos (images=true indexes them), 2 unfinished downloads (b.mp4.part, c.crdownload), "
        "1 file without suffix (noend), 2 other files (notes.txt, subtitles.srt), "
        "1 FIFO (pipe.mp4), 1 socket (s.mkv)"
    )


def test_link_to_a_device_is_passed_over(tmp_path):
    (tmp_path / "a.mp4").symlink_to("/dev/zero")
    walk = walk_folder(tmp_path, SUFFIXES)
    assert (walk.files, str(walk.passed_over)) == ([], "1 device (a.mp4)")


def test_only_the_first_names_are_given(tmp_path):
    passed = PassedOver()
    for name in "abcde":
        passed.add("FIFO", name)
    other = PassedOver()
    other.add("FIFO", "f")
    other.add("socket", "s")
    passed.update(other)
    assert str(passed) == "6 FIFOs (a, b, c, ...), 1 socket (s)"


def test_linked_folders_and_files_are_followed(tmp_path):
    touch(tmp_path, "videos/a.mp4", "other/b.mp4", "other/deep/c.mp4", "single.mp4")
    (tmp_path / "videos/more").symlink_to(tmp_path / "other")
    (tmp_path / "videos/d.mp4").symlink_to(tmp_path / "single.mp4")
    walk = walk_folder(tmp_path / "videos", SUFFIXES)
    assert walk.files == ["a.mp4", "d.mp4", "more/b.mp4", "more/deep/c.mp4"]


def test_loops_of_links_end_and_are_named(tmp_path):
    touch(tmp_path, "a/x.mp4", "b/y.mp4")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "b/itself").symlink_to(tmp_path / "b")
    (tmp_path / "b/other").symlink_to(tmp_path / "a")
    walk = walk_folder(tmp_path, SUFFIXES)
    assert walk.files == ["a/x.mp4", "b/y.mp4"]
    assert walk.passed_over.counts == {"linked folder that is indexed already": 3}


def test_each_of_many_folders_that_link_to_each_other_is_read_once(tmp_path):
    names = [f"f{i}" for i in range(12)]  # followed as they come, these are 12! ways
    touch(tmp_path, *(f"{name}/{name}.mp4" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    assert walk_folder(tmp_path, SUFFIXES).files == [f"{name}/{name}.mp4" for name in sorted(names)]


def test_folder_goes_before_a_link_to_it(tmp_path):
    touch(tmp_path, "videos/z/a.mp4")
    (tmp_path / "videos/link").symlink_to(tmp_path / "videos/z")
    assert walk_folder(tmp_path / "videos", SUFFIXES).files == ["z/a.mp4"]


def test_links_that_lead_nowhere_are_kept_apart(tmp_path):
    (tmp_path / "a.mp4").symlink_to(tmp_path / "away/a.mp4")
    (tmp_path / "drive").symlink_to(tmp_path / "away")
    (tmp_path / "b.mp4").symlink_to(tmp_path / "b.mp4")
    walk = walk_folder(tmp_path, SUFFIXES)
    assert walk.files == ["a.mp4", "b.mp4"]  # each is a video that is missing
    assert walk.dangling == ["drive"]


def test_folder_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp4", "sub/b.mp4", "z/c.mp4")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "sub":  # permissions do not hold root back
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    walk = walk_folder(tmp_path, SUFFIXES)
    assert walk.files == ["a.mp4", "z/c.mp4"]
    assert walk.unreadable == {"sub": "Permission denied"}
    assert walk.problem == ""


def test_folder_that_is_gone_is_a_problem(tmp_path):
    assert walk_folder(tmp_path / "none", SUFFIXES).problem == (
        "cannot be read (No such file or directory)"
    )


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a mounted file system")
def test_folders_of_another_file_system_are_noted(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "proc").symlink_to("/proc/sys/fs")
    mounts = walk_folder(tmp_path, SUFFIXES).mounts
    assert "proc" in mounts
    assert "sub" not in mounts
