import hashlib
import os
from dataclasses import replace

import pytest

from reelseek.indexing import VideoItem
from reelseek.indexing.sources.diff import compute_diff, file_signature
from reelseek.indexing.store.videos import FileSignature, VideoRecord


def record_of(item, number=1, *, outcome="ok"):
    signature = file_signature(item.path)
    location = None if outcome == "failed" else (1, number)
    path = str(item.path)
    return VideoRecord(item.key, path, signature, outcome, id=number, location=location)


@pytest.fixture
def items(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text(name)
    return [VideoItem(name, tmp_path / name) for name in ("a.mp4", "b.mp4")]


@pytest.fixture
def records(items):
    return {
        item.root_and_key: record_of(item, number) for number, item in enumerate(items, start=1)
    }


def test_stamp_is_size_time_and_sha256(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 3_000_000)  # more than is read at once
    os.utime(path, ns=(5, 123_456_789))
    sha256 = hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert file_signature(path) == FileSignature(3_000_000, 123_456_789, sha256)


def test_everything_is_new_to_an_empty_catalogue(items):
    diff = compute_diff(items, {})
    assert diff.examine == items
    assert (diff.unchanged, diff.missing) == ([], [])


def test_same_size_and_time_is_unchanged(items, records):
    diff = compute_diff(items, records)
    assert diff.unchanged == [(item, records[item.root_and_key]) for item in items]
    assert (diff.examine, diff.missing) == ([], [])


def test_other_size_or_other_time_is_examined(items, records):
    status = items[0].path.stat()
    items[0].path.write_text("longer than before")
    os.utime(items[0].path, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.utime(items[1].path, ns=(0, 0))
    assert compute_diff(items, records).examine == items


def test_check_content_examines_everything(items, records):
    diff = compute_diff(items, records, check_content=True)
    assert (diff.examine, diff.unchanged) == (items, [])


def test_retry_failed_examines_what_failed_and_nothing_else(items, records):
    records["", "b.mp4"] = record_of(items[1], 2, outcome="failed")
    assert compute_diff(items, records).examine == []
    diff = compute_diff(items, records, retry_failed=True)
    assert (diff.examine, diff.unchanged) == ([items[1]], [(items[0], records["", "a.mp4"])])


def test_listed_but_not_on_disk_is_missing(items, records):
    items[0].path.unlink()
    diff = compute_diff(items, records)
    assert diff.missing == [(items[0], "no such file")]
    assert diff.unchanged == [(items[1], records["", "b.mp4"])]


def test_same_key_of_another_root_is_another_video(items, records):
    elsewhere = [replace(item, root="other") for item in items]
    assert compute_diff(elsewhere, records).examine == elsewhere
