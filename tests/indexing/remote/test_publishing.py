"""An index published to object storage is opened from there, whole, and only whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.remote.opening import open_published
from reelseek.indexing.remote.publication import Publication, PublishedFile
from reelseek.indexing.remote.publisher import publish_index
from reelseek.indexing.remote.retrying import Retry
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.writer import IndexWriter, check_can_be_written, only_writer
from reelseek.serving import __main__ as serving
from reelseek.serving.library.errors import InvalidRequest
from reelseek.serving.library.writes import delete_videos
from tests.indexing.remote.conftest import index_urls

PROJECT = Path(__file__).parents[3]
RETRY = Retry(6, sleep=lambda seconds: None)


def publish(index, url, **options):
    given = {"retry": RETRY, "timeout_seconds": 5.0, "show_progress": False} | options
    return publish_index(index, url, **given)


def opened(url, cache, **options):
    return open_published(url, cache, **{"retry": RETRY, "timeout_seconds": 5.0} | options)


def answers(index, folder):
    from tests.indexing.conftest import ColourIndex

    other = ColourIndex(Path(folder), index.settings, index.encoder)
    return {hit.key: hit.score for hit in other.search("red")}


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*")}


@pytest.fixture
def index(colour_index, films):
    colour_index.update(films[0].parent)
    return colour_index


def test_published_index_gives_the_same_answers(index, bucket, tmp_path):
    url = f"{bucket.url}/name"
    summary = publish(index.folder, url)
    assert summary.files >= summary.sent > 5  # two files may have one content
    found = opened(url, tmp_path / "cache")
    assert answers(index, found.folder) == answers(index, index.folder)
    assert not (index.folder / "publishing").exists()
    found.close()
    index.update(*index.folder.parent.glob("00.mp4"))  # the source is still an index


def test_copy_of_a_publication_is_not_written(index, bucket, tmp_path):
    url = f"{bucket.url}/name"
    publish(index.folder, url)
    found = opened(url, tmp_path / "cache")
    with pytest.raises(ValueError, match="is a copy of a published index"):
        IndexWriter(found.folder)
    with pytest.raises(ValueError, match="is a copy of a published index"):
        check_can_be_written(found.folder)
    with pytest.raises(InvalidRequest, match="only searched"):
        delete_videos(found.folder, ["any"])
    found.close()


def test_service_opens_a_published_index(index, bucket, tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    url = f"{bucket.url}/name"
    publish(index.folder, url)
    served = []
    monkeypatch.setattr(
        "reelseek.serving.supervisor.serve",
        lambda config, *, url: served.append((url, answers(index, config.index))),
    )
    monkeypatch.setattr("reelseek.serving.telemetry.log_as_json", lambda: None)
    given = [f"index={url}", f"index_cache={tmp_path / 'cache'}"]
    serving.main(compose(ServeConfig, given))
    assert served == [(url, answers(index, index.folder))]


def test_what_is_private_or_unfinished_is_not_published(index, bucket, tmp_path):
    (index.folder / "queries.log").write_bytes(b"queries")
    (index.folder / "unfinished").mkdir(exist_ok=True)
    (index.folder / "unfinished" / "x").write_bytes(b"frames")
    publish(index.folder, f"{bucket.url}/name")
    found = opened(f"{bucket.url}/name", tmp_path / "cache")
    names = {Path(name).name for name in files_of(found.folder)}
    assert names.isdisjoint({"queries.log", "x", "report.jsonl", "config.yaml", "writer.lock"})
    found.close()


def test_what_is_there_is_not_sent_or_fetched_again(index, proxied, bucket, films, tmp_path):
    url, cache = f"{bucket.url}/name", tmp_path / "cache"
    publish(index.folder, url)
    opened(url, cache).close()
    again = publish(index.folder, url)
    assert (again.sent, again.unchanged) == (0, True)
    proxied.requests.clear()
    opened(url, cache).close()
    assert sum(proxied.requests.values()) == 2  # the manifest alone

    films[0].unlink()
    index.update(films[0].parent)
    newer = publish(index.folder, url)
    assert 0 < newer.sent < newer.files
    proxied.requests.clear()
    found = opened(url, cache)
    assert proxied.requests["GET"] == 1 + newer.sent
    assert answers(index, found.folder) == answers(index, index.folder)
    found.close()


def test_follows_the_newer_publication_and_keeps_the_one_in_use(index, bucket, films, tmp_path):
    url, cache = f"{bucket.url}/name", tmp_path / "cache"
    publish(index.folder, url)
    old = opened(url, cache)
    before = answers(index, old.folder)
    films[0].unlink()
    index.update(films[0].parent)
    publish(index.folder, url, prune=True)
    new = opened(url, cache)
    assert answers(index, new.folder) == answers(index, index.folder)
    assert len(answers(index, new.folder)) == len(before) - 1
    assert answers(index, old.folder) == before
    old.close()
    new.close()
    opened(url, cache).close()
    assert not old.folder.exists()
    contents = [path for path in cache.glob("*/files/*/*")]
    assert all(path.stat().st_nlink > 1 for path in contents)


def test_prune_deletes_only_what_no_publication_uses(index, bucket, films, tmp_path):
    url = f"{bucket.url}/name"
    bucket.put("other/files/aa/keep", b"of another publication")
    publish(index.folder, url)
    first = set(bucket.all_keys())
    films[0].unlink()
    index.update(films[0].parent)
    assert publish(index.folder, url).pruned == 0
    assert first < set(bucket.all_keys())
    assert publish(index.folder, url, prune=True).pruned > 0
    publication = Publication.from_json(bucket.read("name/published.json"), url)
    assert set(bucket.all_keys()) == {
        *(f"name/{name}" for name in publication.contents()),
        *("name/published.json", "other/files/aa/keep"),
    }


def test_folder_tree_of_shards_is_published_as_it_is(index, bucket, tmp_path):
    sharded = tmp_path / "sharded"
    shutil.copytree(index.folder, sharded / "shards" / "0000")
    shutil.copytree(index.folder, sharded / "shards" / "0001")
    shutil.copy(index.folder / "manifest.json", sharded / "manifest.json")
    url = f"{bucket.url}/name"
    summary = publish(sharded, url)
    assert summary.sent < summary.files / 2 + 2  # both shards have the same contents
    found = opened(url, tmp_path / "cache")
    for shard in ("0000", "0001"):
        folder = found.folder / "shards" / shard
        assert answers(index, folder) == answers(index, index.folder)
    found.close()
    with only_writer(sharded / "shards" / "0001"), pytest.raises(ValueError, match="is writing it"):
        publish(sharded, url)


def test_index_that_is_written_meanwhile_is_refused(index, bucket):
    with IndexWriter(index.folder), pytest.raises(ValueError, match="another process is writing"):
        publish(index.folder, f"{bucket.url}/name")


@pytest.mark.parametrize("last_put", [2, "published.json"])
def test_killed_publication_leaves_the_old_one_in_force(
    last_put, index, proxied, bucket, films, tmp_path
):
    url = f"{bucket.url}/name"
    publish(index.folder, url)
    before, old = bucket.read("name/published.json"), answers(index, index.folder)
    for film in films[:6]:
        film.unlink()
    index.update(films[0].parent)
    num_puts, process = 0, None

    def kill(method, path):
        nonlocal num_puts
        num_puts += method in ("PUT", "POST")
        if num_puts == last_put or (method == "PUT" and path.endswith(f"/{last_put}")):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return "fail"  # the request dies with the process
        return ""

    proxied.before_answer = kill
    arguments = [f"index={index.folder}", f"to={url}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "reelseek.indexing.tools.publish", *arguments],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    _, printed = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGKILL, printed.decode()
    proxied.before_answer = lambda method, path: ""

    assert bucket.read("name/published.json") == before
    found = opened(url, tmp_path / "cache")
    assert answers(index, found.folder) == old
    found.close()
    publish(index.folder, url)
    found = opened(url, tmp_path / "cache")
    assert answers(index, found.folder) == answers(index, index.folder) != old
    found.close()


def test_faulty_store_costs_no_publication(index, proxied, bucket, tmp_path):
    kinds = iter(["", "fail", "", "cut", ""] * 1000)
    proxied.before_answer = lambda method, path: next(kinds)
    publish(index.folder, f"{bucket.url}/name")
    found = opened(f"{bucket.url}/name", tmp_path / "cache")
    assert min(proxied.faults["fail"], proxied.faults["cut"]) > 0
    assert answers(index, found.folder) == answers(index, index.folder)
    found.close()


def test_other_publisher_meanwhile_is_noticed(index, proxied, bucket):
    url = f"{bucket.url}/name"
    publish(index.folder, url)
    other = Publication({}).to_json()
    (index.folder / "video-extra.npy").write_bytes(os.urandom(99))

    def publish_first(method, path):
        if method == "PUT" and "/files/" in path:
            bucket.put("name/published.json", other)
        return ""

    proxied.before_answer = publish_first
    with pytest.raises(ValueError, match="another process has published there"):
        publish(index.folder, url)
    assert bucket.read("name/published.json") == other


def test_damaged_content_is_never_opened(index, bucket, tmp_path):
    url = f"{bucket.url}/name"
    publish(index.folder, url)
    (key, *_) = [key for key in bucket.all_keys() if "/files/" in key]
    data = bytearray(bucket.read(key))
    data[0] ^= 1
    bucket.put(key, bytes(data))
    with pytest.raises(ValueError, match=r"cannot be fetched: .* is not what was published"):
        opened(url, tmp_path / "cache", retry=Retry(2, sleep=lambda seconds: None))


@pytest.mark.parametrize("path", ["../escaped", "/absolute", "a/../../b", "a\\..\\b", "a//b", "."])
def test_paths_in_a_publication_never_leave_the_cache(path, bucket, tmp_path):
    data = Publication({path: PublishedFile("0" * 64, 1)}).to_json()
    assert path in json.loads(data)["files"]
    bucket.put("name/published.json", data)
    with pytest.raises(ValueError, match="is not a path below a folder"):
        opened(f"{bucket.url}/name", tmp_path / "cache")


def test_cache_is_bounded(index, bucket, films, tmp_path):
    cache = tmp_path / "cache"
    publish(index.folder, f"{bucket.url}/a")
    size = Publication.from_json(bucket.read("a/published.json"), "a").size_bytes
    with pytest.raises(ValueError, match="index_cache_gb"):
        opened(f"{bucket.url}/a", cache, cache_bytes=size - 1)
    first = opened(f"{bucket.url}/a", cache, cache_bytes=size)
    publish(index.folder, f"{bucket.url}/b")
    with pytest.raises(ValueError, match="index_cache_gb"):  # the other one is in use
        opened(f"{bucket.url}/b", cache, cache_bytes=size)
    first.close()
    second = opened(f"{bucket.url}/b", cache, cache_bytes=size)
    assert not first.folder.exists()
    assert answers(index, second.folder) == answers(index, index.folder)
    second.close()


def test_url_without_a_publication_is_named(bucket, tmp_path):
    with pytest.raises(ValueError, match=r"^index=s3://.*: holds no published index"):
        opened(f"{bucket.url}/nothing", tmp_path / "cache")


def test_index_in_shards_is_published_as_one(bucket, films, colour_index, tmp_path):
    for film in films:
        bucket.put(f"films/{film.name}", film)
    assert index_urls(colour_index, f"{bucket.url}/films", num_shards=3).indexed == len(films)
    assert index_urls(colour_index, f"{bucket.url}/films").unchanged == len(films)
    publish(colour_index.folder, f"{bucket.url}/name")
    found = opened(f"{bucket.url}/name", tmp_path / "cache")
    expected = answers(colour_index, colour_index.folder)
    assert answers(colour_index, found.folder) == expected and len(expected) == len(films)
    with pytest.raises(ValueError, match="copy of a published"):
        open_writer(found.folder)
