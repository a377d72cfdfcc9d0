"""Writing in shards: nothing is lost or half published, wherever the writer is killed."""

import os
import shutil
import signal
import threading
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest

import reelseek.indexing.store.atomic
from reelseek.indexing import IndexMismatchError, IndexReader, Manifest
from reelseek.indexing.shards.opening import open_catalogue, open_writer
from reelseek.indexing.shards.placement import shard_of
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.writer import IndexWriter
from tests.indexing.searching import search
from tests.indexing.small_index import SETTINGS, Oracle, answers, assert_same, queries, random_video

NUM_SHARDS = 3

pytestmark = pytest.mark.usefixtures("without_words")


def videos(first: int, last: int, *, seed: int = 0):
    """Of these numbers; a video of a number and a seed is always the same."""
    for number in range(first, last):
        yield random_video(np.random.default_rng([seed, number]), f"{number}.mp4", root="r")


def add(folder: Path, some, *, publish: bool = True) -> None:
    with open_writer(folder, SETTINGS, num_shards=NUM_SHARDS) as writer:
        for video, rows in some:
            writer.add(video, rows)
        if publish:
            writer.publish()


def keys(folder: Path) -> set[str]:
    """Of all that a search finds."""
    with closing(IndexReader(folder)) as reader:
        return {hit.key for hit in search(reader, queries(1)[0], k=1000)}


def is_whole(folder: Path, expected: Oracle) -> None:
    with closing(IndexReader(folder)) as reader:
        for query in queries(3):
            found = answers(search(reader, query, k=1000, level="moment"), "moment")
            assert_same(found, expected.moments(query), 1000)


# Where it is killed


def killed_at(step: int, work) -> bool:
    """Does `work` in a fork that is killed before its durable step of this number; returns whether
    it was, rather than being done before."""
    child = os.fork()
    if child == 0:
        faiss.omp_set_num_threads(1)  # the others are the parent's, and would be waited for
        left = [step]
        sync, unlink = reelseek.indexing.store.atomic._sync, Path.unlink

        def count(do):
            def counted(*arguments, **options):
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return do(*arguments, **options)

            return counted

        reelseek.indexing.store.atomic._sync = count(sync)
        Path.unlink = count(unlink)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def steps_of(folder: Path, work) -> list[int]:
    """Some of the steps that work has on a copy of a folder."""
    copy = folder.with_name("copy")
    step = 32
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        if not killed_at(step, lambda: work(copy)):
            return sorted({int(s) for s in np.linspace(0, step - 1, 8)})
        step *= 2


def test_killed_anywhere_readers_see_all_of_a_publishing_or_nothing(tmp_path):
    start = tmp_path / "start"
    add(start, videos(0, 3))
    add(start, videos(3, 9))  # in files that the next publishing replaces
    held = {video.key: (video, rows) for video, rows in videos(0, 18)}
    old, new = {f"{n}.mp4" for n in range(9)}, set(held)
    seen = set()

    def work(folder):
        add(folder, videos(9, 18))

    for step in steps_of(start, work):
        folder = tmp_path / f"killed-{step}"
        shutil.copytree(start, folder)
        killed_at(step, lambda folder=folder: work(folder))
        found = keys(folder)
        assert found in (old, new), step
        seen.add(len(found))
        with open_writer(folder) as writer:
            stored = {record.key for record in writer.catalogue.scan()}
            assert old <= stored <= new
            for video, rows in (held[key] for key in sorted(new - stored)):
                writer.add(video, rows)
            writer.publish()
        is_whole(folder, Oracle(dict(held)))
        shutil.rmtree(folder)
    assert seen == {9, 18}


def test_killed_anywhere_a_new_index_can_be_made_again(tmp_path):
    def work(folder):
        add(folder, videos(0, 6))

    for step in (0, 1, 3, 6, 10, 20):
        folder = tmp_path / f"killed-{step}"
        assert killed_at(step, lambda folder=folder: work(folder))
        work(folder)
        is_whole(folder, Oracle({video.key: (video, rows) for video, rows in videos(0, 6)}))


def test_added_videos_outlive_the_process_before_they_are_saved(tmp_path):
    def work():
        writer = open_writer(tmp_path, SETTINGS, num_shards=NUM_SHARDS)
        for video, rows in videos(0, 8):
            writer.add(video, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed_at(10_000, work)
    add(tmp_path, [])
    assert keys(tmp_path) == {f"{n}.mp4" for n in range(8)}


def test_readers_see_one_set_of_generations_while_a_writer_publishes(tmp_path):
    """Each publishing replaces all videos by others, some of every shard."""
    add(tmp_path, videos(0, 12))
    done = threading.Event()
    wrong: list[object] = []

    def watch():
        with closing(IndexReader(tmp_path)) as reader:
            while not done.is_set():
                found = {int(hit.key[:-4]) // 12 for hit in search(reader, queries(1)[0], k=99)}
                last = max(found)
                # Earlier videos stay; of the last publishing there are all twelve.
                wrong.extend([found] if found != set(range(last + 1)) else [])
                count = len(reader.video_ids())
                wrong.extend([count] if count % 12 else [])
        if len(keys(tmp_path)) % 12:
            wrong.append("cold")

    threads = [threading.Thread(target=watch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 6):
        add(tmp_path, videos(12 * number, 12 * number + 12))
        if len(keys(tmp_path)) != 12 * number + 12:
            wrong.append(number)
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_shard_that_published_alone_is_read_as_the_manifest_of_all_has_it(tmp_path):
    """As when a writer is killed between two shards."""
    add(tmp_path, videos(0, 12))
    with ShardedWriter(tmp_path) as writer:
        for video, rows in videos(12, 24):
            writer.add(video, rows)
        writer.save()
        writer.shards[0].publish(clears=False)
        assert len(keys(tmp_path)) == 12
        with closing(IndexReader(tmp_path)) as reader:
            before = reader.manifest.generation
            writer.publish()
            assert len(search(reader, queries(1)[0], k=99)) == 24
            assert reader.manifest.generation == before + 1
        writer.publish()
        assert writer.manifest.generation == before + 1  # nothing has changed


def test_a_single_change_touches_its_shard_alone(tmp_path):
    add(tmp_path, videos(0, 12))
    with ShardedWriter(tmp_path) as writer:
        before = [shard.manifest for shard in writer.shards]
        record = next(writer.catalogue.scan())
        writer.catalogue.edit(record, {"title": "by hand"})
        # Read they would be found damaged, and made anew.
        for shard in writer.shards[1:]:
            next(shard.folder.glob("moment-*.faiss")).write_bytes(b"garbage")
        writer.publish(train=False)
        after = [shard.manifest for shard in writer.shards]
        assert after[0].generation == before[0].generation + 1 and after[1:] == before[1:]
        writer.publish()
        assert [shard.manifest.generation for shard in writer.shards] == [
            manifest.generation + 1 for manifest in before
        ]


# What is where


def test_ids_are_those_of_an_ordinary_index_and_name_the_shard(tmp_path):
    add(tmp_path / "shards", videos(0, 20))
    with IndexWriter(tmp_path / "one", SETTINGS) as writer:
        for video, rows in videos(0, 20):
            writer.add(video, rows)
        writer.publish()
    with (
        closing(open_catalogue(tmp_path / "one")) as one,
        closing(open_catalogue(tmp_path / "shards")) as shards,
    ):
        assert one.public_ids() == shards.public_ids()
    for position in range(NUM_SHARDS):
        folder = tmp_path / "shards" / "shards" / f"{position:04d}"
        with closing(open_catalogue(folder)) as own:
            ids = list(own.public_ids().values())
        assert ids and {shard_of(id, NUM_SHARDS) for id in ids} == {position}


def test_a_moved_video_keeps_its_id_and_its_old_name_is_free(tmp_path):
    add(tmp_path, videos(0, 4))
    with ShardedWriter(tmp_path) as writer:
        (record,) = [r for r in writer.catalogue.scan() if r.key == "0.mp4"]
        writer.catalogue.update(record, key="moved.mp4", path="/videos/moved.mp4")
        for video, rows in videos(0, 1, seed=1):
            writer.add(video, rows)
        writer.publish()
        ids = writer.catalogue.public_ids()
    assert ids["r", "moved.mp4"] == record.public_id != ids["r", "0.mp4"]
    assert len(set(ids.values())) == 5
    with closing(IndexReader(tmp_path)) as reader:
        for key in ("moved.mp4", "0.mp4"):
            assert reader.record(ids["r", key]).key == key


def test_embeddings_of_videos_are_found_in_any_shard(tmp_path):
    add(tmp_path, videos(0, 9))
    with ShardedWriter(tmp_path) as writer:
        writer.publish()
        by_key = {key: public_id for (_, key), public_id in writer.catalogue.public_ids().items()}
    expected = {by_key[video.key]: rows for video, rows in videos(0, 9)}
    with closing(IndexReader(tmp_path)) as reader:
        names, embeddings = reader.video_embeddings([*expected, "no such id"])
        assert sorted(names) == sorted(expected)
        for name, found in zip(names, embeddings, strict=True):
            np.testing.assert_allclose(found, expected[name][0], atol=1e-3)  # stored as halves
        names, embeddings = reader.video_embeddings([])
        assert names == []
        assert embeddings.shape == (0, found.shape[0])


def test_copies_are_one_hit_whatever_shards_they_are_in(tmp_path):
    add(tmp_path, videos(0, 1))
    with ShardedWriter(tmp_path) as writer:
        (record,) = writer.catalogue.scan()
        ((video, _),) = videos(0, 1)
        for number in range(1, 12):
            copied = type(video)(**{**vars(video), "key": f"{number}.mp4"})
            writer.add_duplicate(copied, record)
        writer.save()
        text = TimedText("ocr", 0.0, 1.0, "exit")
        writer.catalogue.store_texts(record.id, "ocr", [text], engine="given")
        assert writer.catalogue.copy_texts("ocr") == 11
        assert writer.catalogue.copy_texts("ocr") == 0
        assert writer.catalogue.without_texts("ocr") == []
        writer.publish()
        assert all(shard.manifest.num_videos for shard in writer.shards)
    with closing(IndexReader(tmp_path)) as reader:
        (hit,) = search(reader, queries(1)[0], k=5)
    assert len(hit.also_as) == 11


def test_deleting_leaves_out_at_once_and_excluding_is_kept(tmp_path):
    add(tmp_path, videos(0, 9))
    with closing(IndexReader(tmp_path)) as reader, ShardedWriter(tmp_path) as writer:
        records = sorted(writer.catalogue.scan(), key=lambda r: r.key)
        writer.catalogue.exclude(records[:3])
        writer.delete_videos(records[3:5])
        assert len(search(reader, queries(1)[0], k=99)) == 4
        excluded = writer.catalogue.excluded()
        assert {video.key for video in excluded} == {r.key for r in records[:3]}
        writer.catalogue.include(excluded)
        assert writer.catalogue.excluded() == []


# Mistakes and damage


def test_another_number_of_shards_is_refused_with_the_command_that_divides(tmp_path):
    add(tmp_path, videos(0, 3))
    with pytest.raises(ValueError, match=r"shards=4: index=.* has 3; .*reelseek shard --index"):
        open_writer(tmp_path, SETTINGS, num_shards=4)
    open_writer(tmp_path, SETTINGS, num_shards=3).close()


def test_other_settings_are_refused(tmp_path):
    add(tmp_path, videos(0, 3))
    other = type(SETTINGS)(**{**vars(SETTINGS), "fingerprint": "0" * 32})
    with pytest.raises(IndexMismatchError, match="was built with"):
        open_writer(tmp_path, other)


def test_a_shard_is_not_changed_by_itself(tmp_path):
    add(tmp_path, videos(0, 3))
    with pytest.raises(ValueError, match=r"is a shard; name the whole index, ") as raised:
        IndexWriter(tmp_path / "shards" / "0001")
    assert str(tmp_path) in str(raised.value)


def _missing(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "shards" / "0001")


def _foreign(folder: Path, other: Path) -> None:
    shutil.rmtree(folder / "shards" / "0001")
    shutil.copytree(other / "shards" / "0001", folder / "shards" / "0001")
    # Otherwise it is as it was published: its files have the names and checksums.
    Manifest.read(folder)


def _swapped(folder: Path, other: Path) -> None:
    for name, to in (("0001", "x"), ("0002", "0001"), ("x", "0002")):
        (folder / "shards" / name).rename(folder / "shards" / to)


@pytest.mark.parametrize("damage", [_missing, _foreign, _swapped])
def test_missing_and_foreign_shards_are_one_line(tmp_path, monkeypatch, damage):
    monkeypatch.setattr("reelseek.indexing.snapshot._OPEN_ATTEMPTS", 2)
    add(tmp_path / "index", videos(0, 6))
    add(tmp_path / "other", videos(0, 6))
    damage(tmp_path / "index", tmp_path / "other")
    for open_index in (
        lambda: IndexReader(tmp_path / "index"),
        lambda: add(tmp_path / "index", []),
    ):
        with pytest.raises(ValueError, match=r"0001") as raised:
            open_index()
        assert "\n" not in str(raised.value)
        assert str(tmp_path / "index") in str(raised.value)


@pytest.mark.parametrize("cut", [0, 40, -1])
def test_a_damaged_manifest_is_one_line(tmp_path, cut):
    add(tmp_path, videos(0, 6))
    path = Manifest.path(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:cut] + (b"" if cut >= 0 else b"~") + content[len(content) :])
    with pytest.raises(ValueError, match=r"manifest.json is damaged .*; run reelseek repair"):
        IndexReader(tmp_path)
