"""Videos in a bucket -> the index that the same files in a folder give."""

import dataclasses
import json

import pytest

from reelseek.indexing import IndexReader, StopRequest
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.remote.s3 import S3Store
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.vision import DecodePool, FrameSettings
from tests.indexing.conftest import SAMPLER
from tests.indexing.remote.conftest import QUICK, index_urls


def records(index):
    return {r.path: r for r in Catalogue(index.folder / CATALOGUE_NAME, read_only=True).scan()}


def put_all(bucket, films, prefix="films/"):
    for film in films:
        bucket.put(prefix + film.name, film)


def test_bucket_gives_the_answers_of_a_folder(bucket, films, colour_index, tmp_path):
    put_all(bucket, films)
    summary = index_urls(colour_index, f"{bucket.url}/films")
    assert (summary.indexed, summary.failed, summary.searchable) == (12, 0, 12)
    remote = {hit.key: hit.score for hit in colour_index.search("red")}
    assert {hit.video for hit in colour_index.search("red")} == {
        f"{bucket.url}/films/{film.name}" for film in films
    }
    local = dataclasses.replace(colour_index, folder=tmp_path / "local")
    assert local.update(films[0].parent).indexed == 12
    assert remote == {hit.key: hit.score for hit in local.search("red")}
    assert not (colour_index.folder / "fetched").exists()


def test_second_run_fetches_only_what_changed(proxied, bucket, films, colour_index):
    put_all(bucket, films[:5])
    index_urls(colour_index, f"{bucket.url}/films")
    ids = {path: record.public_id for path, record in records(colour_index).items()}
    proxied.requests.clear()
    assert index_urls(colour_index, f"{bucket.url}/films").unchanged == 5
    assert sum(proxied.requests.values()) == 1  # one page of the listing
    assert colour_index.decoded == []

    bucket.put("films/00.mp4", films[9])
    bucket.put("films/05.mp4", films[5])
    bucket.delete("films/01.mp4")
    summary = index_urls(colour_index, f"{bucket.url}/films")
    assert (summary.indexed, summary.unchanged, summary.deleted) == (2, 3, 1)
    assert len(colour_index.decoded) == 2
    left = {path: record.public_id for path, record in records(colour_index).items()}
    assert len(left) == 5
    assert all(ids.get(path, public_id) == public_id for path, public_id in left.items())


def test_same_size_and_other_content_is_indexed_again(bucket, films, colour_index):
    data = bytearray(films[0].read_bytes())
    bucket.put("a.mp4", bytes(data))
    index_urls(colour_index, bucket.url)
    data[-1] ^= 1
    bucket.put("a.mp4", bytes(data))
    summary = index_urls(colour_index, bucket.url)
    assert (summary.indexed, summary.unchanged) == (1, 0)


def test_same_content_put_again_is_not_fetched_again(proxied, bucket, films, colour_index):
    put_all(bucket, films[:2])
    index_urls(colour_index, f"{bucket.url}/films")
    put_all(bucket, films[:2])  # another time, the same ETag
    proxied.requests.clear()
    assert index_urls(colour_index, f"{bucket.url}/films").unchanged == 2
    assert sum(proxied.requests.values()) == 1


def test_faulty_store_costs_no_video(proxied, bucket, films, colour_index):
    put_all(bucket, films)
    kinds = iter(["", "fail", "cut", "slow", ""] * 1000)
    proxied.before_answer = lambda method, path: next(kinds)
    options = dataclasses.replace(QUICK, timeout_seconds=0.3, attempts=12)
    summary = index_urls(colour_index, f"{bucket.url}/films", options=options)
    assert (summary.indexed, summary.failed) == (12, 0)
    assert min(proxied.faults[kind] for kind in ("fail", "cut", "slow")) > 0
    assert all(line["outcome"] == "ok" for line in colour_index.report().values())


def test_what_fails_for_good_is_failed_with_its_reason_in_one_line(
    proxied, bucket, films, colour_index
):
    put_all(bucket, films[:3])
    proxied.before_answer = lambda method, path: (
        "fail" if "01.mp4" in path else "cut" if "02.mp4" in path and method == "GET" else ""
    )
    options = dataclasses.replace(QUICK, attempts=2)
    summary = index_urls(colour_index, f"{bucket.url}/films", options=options)
    assert (summary.indexed, summary.failed, summary.searchable) == (1, 2, 1)
    report = colour_index.report()
    assert report["01.mp4"]["reason"].startswith("cannot be fetched: the server answered with")
    assert "\n" not in report["01.mp4"]["reason"]
    assert report["02.mp4"]["reason"].endswith("(2 attempts)")

    proxied.before_answer = lambda method, path: ""
    summary = index_urls(colour_index, f"{bucket.url}/films")
    assert (summary.indexed, summary.unchanged, summary.failed) == (2, 1, 0)


def test_object_that_changes_while_it_is_fetched_is_fetched_again(
    proxied, bucket, films, colour_index
):
    bucket.put("a.mp4", films[0])
    calls = []

    def change_once(method, path):
        if method == "GET" and "a.mp4" in path:
            calls.append(path)
            if len(calls) == 1:
                bucket.put("a.mp4", films[11])
                return "cut"
        return ""

    proxied.before_answer = change_once
    assert index_urls(colour_index, bucket.url).indexed == 1
    (record,) = records(colour_index).values()
    assert record.signature.size_bytes == films[11].stat().st_size
    proxied.before_answer = lambda method, path: ""
    assert index_urls(colour_index, bucket.url).unchanged == 1


def test_budget_bounds_what_lies_on_disk(bucket, films, colour_index, monkeypatch):
    put_all(bucket, films[:6])
    largest = max(film.stat().st_size for film in films[:6])
    options = dataclasses.replace(QUICK, disk_bytes=2 * largest)
    lying = []
    decode = colour_index.iter_frames

    def watched(path, settings, **more):
        folder = colour_index.folder / "fetched"
        lying.append(sum(file.stat().st_size for file in folder.iterdir()))
        yield from decode(path, settings, **more)

    colour_index.iter_frames = watched
    summary = index_urls(colour_index, f"{bucket.url}/films", options=options)
    assert (summary.indexed, summary.failed) == (6, 0)
    assert 0 < max(lying) <= options.disk_bytes


def test_object_larger_than_the_budget_is_failed_and_names_the_option(bucket, films, colour_index):
    bucket.put("a.mp4", films[0])
    bucket.put("b.mp4", films[1].read_bytes() + bytes(1 << 16))
    options = dataclasses.replace(QUICK, disk_bytes=films[1].stat().st_size + (1 << 12))
    summary = index_urls(colour_index, bucket.url, options=options)
    assert (summary.indexed, summary.failed) == (1, 1)
    assert "remote.disk_gb" in colour_index.report()["b.mp4"]["reason"]


ODD_KEYS = [
    "films/../../../../escaped.mp4",
    "films//escaped.mp4",
    "films/a\u2028b\x1b.mp4",
    "films/ü 漢 '\"$HOME;%2e%2e.mp4",
    "films/~.mp4",
    "films/a?versionId=1#x.mp4",
    "films/a\\b.mp4",
    f"films/{'x' * 300}.mp4",
]


def test_names_in_a_bucket_are_data(bucket, films, colour_index, tmp_path):
    for key, film in zip(ODD_KEYS, films, strict=False):
        bucket.put(key, film)

    def outside():
        return {path for path in tmp_path.rglob("*") if colour_index.folder not in path.parents}

    before = outside()
    assert index_urls(colour_index, f"{bucket.url}/films").indexed == len(ODD_KEYS)
    assert outside() - before == {colour_index.folder}
    found = records(colour_index)
    assert found.keys() == {f"{bucket.url}/{key}" for key in ODD_KEYS}
    assert {r.key for r in found.values()} == {key.removeprefix("films/") for key in ODD_KEYS}


def test_hidden_objects_folders_and_other_files_are_passed_over(bucket, films, colour_index):
    for key in ("a.mp4", ".hidden.mp4", ".trash/b.mp4", "c.txt", "photo.jpg"):
        bucket.put(key, films[0])
    bucket.put("folder.mp4/", b"")
    assert index_urls(colour_index, bucket.url).indexed == 1


def test_local_videos_stay_when_a_bucket_is_indexed_and_the_reverse(
    bucket, films, colour_index, tmp_path
):
    put_all(bucket, films[:3])
    index_urls(colour_index, f"{bucket.url}/films")
    (tmp_path / "here").mkdir()
    films[4].rename(tmp_path / "here" / "own.mp4")
    assert colour_index.update(tmp_path / "here").searchable == 4
    assert index_urls(colour_index, f"{bucket.url}/films").searchable == 4
    summary = colour_index.update(tmp_path / "here", prune=True)
    assert (summary.deleted, summary.searchable) == (3, 1)


def test_bucket_that_is_away_deletes_nothing(proxied, bucket, films, colour_index):
    put_all(bucket, films[:3])
    index_urls(colour_index, f"{bucket.url}/films")
    proxied.before_answer = lambda method, path: "fail"
    options = dataclasses.replace(QUICK, attempts=2)
    summary = index_urls(colour_index, f"{bucket.url}/films", options=options, prune=True)
    assert (summary.missing, summary.deleted, summary.searchable) == (3, 0, 3)


def test_lists_name_urls_with_captions(bucket, films, colour_index, tmp_path):
    put_all(bucket, films[:3])
    lines = [
        {"video": f"{bucket.url}/films/00.mp4", "title": "absolute"},
        {"video": "../films/01.mp4", "title": "relative"},
        {"video": "/films/gone.mp4"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    bucket.put("lists/a.jsonl", text.encode())
    summary = index_urls(colour_index, f"{bucket.url}/lists/a.jsonl")
    assert (summary.indexed, summary.missing) == (2, 1)
    found = {r.path: r.metadata.get("title") for r in records(colour_index).values()}
    assert found == {
        f"{bucket.url}/films/00.mp4": "absolute",
        f"{bucket.url}/films/01.mp4": "relative",
    }
    local = tmp_path / "b.txt"
    local.write_text(f"{bucket.url}/films/02.mp4\n{films[5]}\n")
    summary = colour_index.update(local, remote_options=QUICK)
    assert (summary.indexed, summary.searchable) == (2, 4)
    reader = IndexReader(colour_index.folder)
    assert reader.manifest.num_videos == 4
    reader.close()


def test_copies_that_a_killed_run_left_are_deleted(bucket, films, colour_index):
    put_all(bucket, films[:1])
    colour_index.update(films[1])
    left = colour_index.folder / "fetched" / "left.mp4"
    left.parent.mkdir()
    left.write_bytes(b"of a killed run")
    index_urls(colour_index, f"{bucket.url}/films")
    assert not left.parent.exists()


def test_work_begins_before_the_listing_has_ended(bucket, films, colour_index, monkeypatch):
    monkeypatch.setattr("reelseek.indexing.remote.collection._AT_ONCE", 2)
    put_all(bucket, films[:6])
    page_size = 2
    asked = []

    def limited(self, name, **values):
        if name == "list_objects_v2":
            asked.append(len(colour_index.decoded))
            values["MaxKeys"] = page_size
        return request(self, name, **values)

    request = S3Store._request
    monkeypatch.setattr(S3Store, "_request", limited)
    assert index_urls(colour_index, f"{bucket.url}/films").indexed == 6
    assert len(asked) >= 3
    assert asked[0] == 0 < asked[2] < 6


def test_decoders_and_fetching_never_wait_for_each_other(bucket, films, colour_index):
    """More workers than files that may lie on disk: those that are done make room."""
    put_all(bucket, films[:5])
    largest = max(film.stat().st_size for film in films[:5])
    options = dataclasses.replace(QUICK, disk_bytes=largest)
    settings = FrameSettings(SAMPLER, colour_index.encoder.preprocessing)
    with DecodePool(settings, num_workers=3) as pool:
        summary = index_urls(colour_index, f"{bucket.url}/films", options=options, pool=pool)
    assert (summary.indexed, summary.failed) == (5, 0)


def test_mistake_of_ours_while_fetching_ends_the_run(bucket, films, colour_index, monkeypatch):
    """The run must not wait for ever for what no thread fetches."""
    put_all(bucket, films[:2])
    monkeypatch.setattr(
        "reelseek.indexing.remote.fetching.Fetcher._download",
        lambda self, remote, path: 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        index_urls(colour_index, f"{bucket.url}/films")
    assert not (colour_index.folder / "fetched").exists()


def test_stopped_run_goes_on_and_fetches_nothing_twice(proxied, bucket, films, colour_index):
    put_all(bucket, films)
    stop, decode = StopRequest(), colour_index.iter_frames

    def stopping(path, settings, **more):
        yield from decode(path, settings, **more)
        if len(colour_index.decoded) == 3:
            stop.signal_number = 15

    colour_index.iter_frames = stopping
    options = dataclasses.replace(QUICK, parallel=1, disk_bytes=1 << 15)
    first = index_urls(colour_index, f"{bucket.url}/films", options=options, stop=stop)
    assert first.stopped
    assert 3 <= first.indexed < 12
    assert not (colour_index.folder / "fetched").exists()
    proxied.requests.clear()
    colour_index.iter_frames = decode
    second = index_urls(colour_index, f"{bucket.url}/films", options=options)
    assert (second.unchanged, second.indexed) == (first.indexed, 12 - first.indexed)
    assert proxied.requests["GET"] == 1 + second.indexed
