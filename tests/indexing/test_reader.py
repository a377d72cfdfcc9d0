import sqlite3
import threading
from contextlib import closing
from itertools import pairwise

import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing import snapshot as generation
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.writer import IndexWriter
from tests.conftest import COLOURS
from tests.indexing import small_index
from tests.indexing.conftest import QUERIES
from tests.indexing.searching import search
from tests.indexing.small_index import (
    answers,
    assert_same,
    make_index,
    queries,
    random_index,
    random_video,
    video_of,
)

LEVELS = ("video", "moment")
RED, GREEN, BLUE = COLOURS.values()


@pytest.fixture
def films(write_video, tmp_path):
    """`film`: red 0-6 s, green 6-12 s, blue 12-18 s; and a red and a green one of 5 seconds."""
    folder = tmp_path / "videos"
    write_video("film.mp4", [RED] * 12 + [GREEN] * 12 + [BLUE] * 12, fps=2, folder=folder)
    write_video("red.mp4", [RED] * 10, fps=2, folder=folder)
    write_video("sub/green.mp4", [GREEN] * 10, fps=2, folder=folder)
    return folder


def long_videos(num_videos, *, seed=0):
    """Videos of 1 to 60 segments."""
    rng = np.random.default_rng(seed)
    for i in range(num_videos):
        yield random_video(
            rng, f"{i}.mp4", num_segments=int(rng.integers(1, 61)), metadata={"title": f"{i}.MP4"}
        )


def intersection_over_union(hit, start_seconds, end_seconds):
    both = min(hit.end_seconds, end_seconds) - max(hit.start_seconds, start_seconds)
    either = max(hit.end_seconds, end_seconds) - min(hit.start_seconds, start_seconds)
    return max(both, 0) / either


def test_videos_worked_out_by_hand(colour_index, films):
    colour_index.update(films)
    hits = colour_index.search("green")
    red, green, blue = (np.array(colour) / np.linalg.norm(colour) for colour in COLOURS.values())
    film = red + green + blue  # a third of the frames each; the mean's length does not matter
    expected = [green[1], film[1] / np.linalg.norm(film), red[1]]
    assert [hit.key for hit in hits] == ["sub/green.mp4", "film.mp4", "red.mp4"]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=0.02)
    assert hits[0].video == str(films / "sub" / "green.mp4")
    whole = [(hit.start_seconds, hit.end_seconds, hit.duration_seconds) for hit in hits]
    np.testing.assert_allclose(whole, [(0, 5, 5), (0, 18, 18), (0, 5, 5)], atol=0.01)
    # Of the film's segments, [6, 10) and [8, 12) are all green.
    assert hits[1].best_seconds in (8.0, 10.0)


@pytest.mark.parametrize(
    ("colour", "start_seconds", "end_seconds"),
    [("red", 0, 6), ("green", 6, 12), ("blue", 12, 18)],
)
def test_moment_is_where_the_colour_is(colour_index, films, colour, start_seconds, end_seconds):
    colour_index.update(films)
    hits = colour_index.search(colour, level="moment")
    best = next(hit for hit in hits if hit.key == "film.mp4")
    assert intersection_over_union(best, start_seconds, end_seconds) >= 0.5
    assert start_seconds <= best.best_seconds <= end_seconds
    assert best.duration_seconds == pytest.approx(18, abs=0.01)
    plain = {name: np.array(rgb) / np.linalg.norm(rgb) for name, rgb in COLOURS.items()}
    channel = int(plain[colour].argmax())
    film = np.mean([plain[name][channel] for name in ("red", "green", "blue")])
    assert best.score == pytest.approx((4 * plain[colour][channel] + film) / 5, abs=0.02)


def test_green_moment_of_the_film_is_exactly_the_green_stretch(colour_index, films):
    # Segments of 4 seconds every 2. All green: [6, 10) and [8, 12), 0.98. Half green: [4, 8) and
    # [10, 14), 0.69. The others 0.13, the mean 0.48; so a neighbour matches from 0.73 on.
    colour_index.update(films)
    hits = colour_index.search("green", level="moment")
    best = next(hit for hit in hits if hit.key == "film.mp4")
    assert (best.start_seconds, best.end_seconds) == (6.0, 12.0)


def test_moments_of_a_video_do_not_overlap(colour_index, films):
    colour_index.update(films)
    hits = [hit for hit in colour_index.search("green", level="moment") if hit.key == "film.mp4"]
    hits.sort(key=lambda hit: hit.start_seconds)
    assert len(hits) > 1
    for earlier, later in pairwise(hits):
        assert earlier.end_seconds <= later.start_seconds


def test_k_larger_than_the_index_gives_all_there_is(colour_index, films):
    colour_index.update(films)
    assert len(colour_index.search("green", k=1)) == 1
    assert len(colour_index.search("green", k=10_000)) == 3
    hits = colour_index.search("green", k=10_000, level="moment")
    assert {hit.key for hit in hits} == {"film.mp4", "red.mp4", "sub/green.mp4"}
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_moments_equal_those_of_all_segments_of_all_videos(tmp_path):
    oracle = make_index(tmp_path / "index", long_videos(40))
    with closing(IndexReader(tmp_path / "index")) as reader:
        for query in queries(5):
            hits = search(reader, query, k=1000, level="moment")
            assert_same(answers(hits, "moment"), oracle.moments(query), 1000)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_few_moments_are_the_best_of_the_nearest_segments_and_videos(tmp_path, k):
    oracle = make_index(tmp_path / "index", long_videos(40, seed=k))
    with closing(IndexReader(tmp_path / "index")) as reader:
        for query in queries(5, seed=k):
            found = answers(search(reader, query, k=k, level="moment"), "moment")
            assert len(found) == k
            every = oracle.moments(query)
            scores = {
                key: rows[1 : 1 + len(video.spans)] @ query
                for key, (video, rows) in oracle.held.items()
            }
            nearest = sorted(scores, key=lambda key: -scores[key].max())[: int(1.5 * k)]
            min_score = np.sort(np.concatenate(list(scores.values())))[-5 * k]
            all_scores = {entry[1:]: entry[0] for entry in every}
            for score, *what in found:
                np.testing.assert_allclose(score, all_scores[tuple(what)], atol=1e-5)
            for score, key, start, end in every:
                inside = scores[key][int(start) // 2 : int(end) // 2].max()
                if score > found[-1][0] + 1e-4 and key in nearest and inside > min_score:
                    assert (key, start, end) in [tuple(what) for _, *what in found]


def test_videos_equal_brute_force(tmp_path):
    oracle = make_index(tmp_path / "index", long_videos(40))
    with closing(IndexReader(tmp_path / "index")) as reader:
        for query in queries(5):
            hits = search(reader, query, k=7)
            assert_same(answers(hits, "video"), oracle.videos(query), 7)
            for hit in hits:
                video, rows = oracle.held[hit.key]
                best = int((rows[1 : 1 + len(video.spans)] @ query).argmax())
                assert hit.best_seconds == 2.0 * best + 1
                assert hit.metadata == {"title": hit.key.upper()}


def test_long_video_that_matches_evenly_does_not_crowd_out_the_others(tmp_path):
    rng = np.random.default_rng(0)
    axes = np.eye(small_index.D)
    near = axes[0] + rng.normal(scale=0.02, size=(900, small_index.D))
    others = [video_of(f"{i}.mp4", axes[[0, 0]] + axes[[i]]) for i in (1, 2)]
    make_index(tmp_path / "index", [video_of("long.mp4", near), *others])
    with closing(IndexReader(tmp_path / "index")) as reader:
        hits = search(reader, axes[0].astype(np.float32), k=3, level="moment")
    assert [(hit.start_seconds, hit.end_seconds) for hit in hits] == [(0, 1800), (0, 4), (0, 4)]
    assert [hit.key for hit in hits][:1] == ["long.mp4"]
    assert sorted(hit.key for hit in hits[1:]) == ["1.mp4", "2.mp4"]


# Changes meanwhile


def delete(folder, *keys):
    """Deletes videos, as a writer does, without publishing."""
    with closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue:
        for record in list(catalogue.scan()):
            if record.key in keys:
                catalogue.store([], [], deleted_keys=[record.key], root=record.root)


@pytest.mark.parametrize("level", LEVELS)
def test_emptied_index_finds_nothing(tmp_path, level):
    random_index(tmp_path, 3)
    with closing(IndexReader(tmp_path)) as reader:
        with IndexWriter(tmp_path) as writer:
            writer.delete(list(writer.catalogue.records()))
            writer.publish()
        assert search(reader, queries(1)[0], k=3, level=level) == []


@pytest.mark.parametrize("level", LEVELS)
def test_video_deleted_after_it_was_published_is_not_returned(colour_index, films, level):
    colour_index.update(films)
    with closing(IndexReader(colour_index.folder)) as reader:
        delete(colour_index.folder, "sub/green.mp4")
        hits = search(reader, QUERIES["green"], k=100, level=level)
    assert hits[0].key == "film.mp4"
    assert {hit.key for hit in hits} == {"film.mp4", "red.mp4"}
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize("kind", ["flat", "IVF4,SQ8", "HNSW8,SQ8"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [1, 3, 30, 1_000_000])
@pytest.mark.parametrize("where", [None, "key != nothing"])
def test_search_ends_after_each_of_many_live_deletions(tmp_path, kind, level, k, where):
    folder = tmp_path / "index"
    oracle = random_index(folder, 30, options=FaissOptions(kind))
    (query,) = queries(1)
    with closing(IndexReader(folder)) as reader:
        while oracle.held:
            best, *_ = search(reader, query, k=k, level=level, where=where)
            others = sorted(oracle.held.keys() - {best.key})[:6]
            delete(folder, best.key, *others)
            for key in (best.key, *others):
                del oracle.held[key]
            found = answers(search(reader, query, k=k, level=level, where=where), level)
            expected = getattr(oracle, f"{level}s")(query)
            if kind == "flat":
                assert_same(found, expected, k)
            else:
                assert len(found) == min(k, len(expected))
                assert {what[1:] for what in found} <= {what[1:] for what in expected}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [1, 3, 1_000_000])
def test_live_deletion_in_the_delta_shard_is_left_out(tmp_path, level, k):
    folder = tmp_path / "index"
    oracle = random_index(folder, 40)
    rng = np.random.default_rng(5)
    with IndexWriter(folder) as writer:
        for i in range(5):
            video, rows = random_video(rng, f"new {i}.mp4")
            writer.add(video, rows)
            oracle.held[video.key] = video, rows
        assert writer.publish().levels[level].delta is not None
    with closing(IndexReader(folder)) as reader:
        for key in ("new 1.mp4", "3.mp4", "new 4.mp4"):
            _, rows = oracle.held.pop(key)
            delete(folder, key)
            hits = search(reader, rows[1], k=k, level=level)
            assert_same(answers(hits, level), getattr(oracle, f"{level}s")(rows[1]), k)


@pytest.mark.parametrize("level", LEVELS)
def test_video_deleted_before_the_entries_are_looked_up_is_left_out(
    colour_index, films, level, monkeypatch
):
    colour_index.update(films)
    look_up = Catalogue.videos
    num_calls = 0

    def lose_and_look_up(self, ids):
        nonlocal num_calls
        num_calls += 1
        delete(colour_index.folder, "sub/green.mp4")
        return look_up(self, ids)

    with closing(IndexReader(colour_index.folder)) as reader:
        monkeypatch.setattr(Catalogue, "videos", lose_and_look_up)
        hits = search(reader, QUERIES["green"], k=100, level=level)
    assert num_calls == 2  # and then again, without it
    assert {hit.key for hit in hits} == {"film.mp4", "red.mp4"}
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize("level", LEVELS)
def test_video_deleted_after_the_entries_are_looked_up_does_not_upset_the_search(
    colour_index, films, level, monkeypatch
):
    colour_index.update(films)
    look_up = Catalogue.videos

    def look_up_and_lose(self, ids):
        found = look_up(self, ids)
        delete(colour_index.folder, "sub/green.mp4")
        return found

    with closing(IndexReader(colour_index.folder)) as reader:
        monkeypatch.setattr(Catalogue, "videos", look_up_and_lose)
        keys = {hit.key for hit in search(reader, QUERIES["green"], k=100, level=level)}
        assert keys == {"film.mp4", "red.mp4", "sub/green.mp4"}
        hits = search(reader, QUERIES["green"], k=100, level=level)
        assert {hit.key for hit in hits} == {"film.mp4", "red.mp4"}


@pytest.mark.parametrize("level", LEVELS)
def test_videos_that_go_one_by_one_in_the_middle_of_a_search_leave_nothing(
    tmp_path, level, monkeypatch
):
    random_index(tmp_path / "index", 10)
    look_up = Catalogue.videos

    def lose_and_look_up(self, ids):
        if len(ids):
            delete(tmp_path / "index", next(iter(look_up(self, ids).values())).key)
        return look_up(self, ids)

    with closing(IndexReader(tmp_path / "index")) as reader:
        monkeypatch.setattr(Catalogue, "videos", lose_and_look_up)
        assert search(reader, queries(1)[0], k=3, level=level) == []


def replace_films(colour_index, films, write_video):
    for name, num_frames in (("film.mp4", 7), ("red.mp4", 8)):  # not copies of each other
        write_video(name, [BLUE] * num_frames, fps=2, folder=films)
    colour_index.update(films)


def test_open_reader_goes_over_to_what_replaces_everything(colour_index, films, write_video):
    colour_index.update(films)
    with closing(IndexReader(colour_index.folder)) as reader:
        assert reader.manifest.generation == 1
        replace_films(colour_index, films, write_video)
        hits = search(reader, QUERIES["blue"], k=9)
        assert reader.manifest.generation == 2
    assert {hit.key for hit in hits[:2]} == {"film.mp4", "red.mp4"}
    durations = {hit.key: hit.duration_seconds for hit in hits[:2]}
    assert durations == pytest.approx({"film.mp4": 3.5, "red.mp4": 4.0}, abs=0.01)
    assert hits[2].key == "sub/green.mp4"


def test_open_reader_goes_on_while_everything_is_replaced(
    colour_index, films, write_video, monkeypatch
):
    colour_index.update(films)
    with closing(IndexReader(colour_index.folder)) as reader:
        replace_films(colour_index, films, write_video)
        monkeypatch.setattr(IndexReader, "_refresh", lambda reader: None)  # as if in mid-search
        for level in LEVELS:
            hits = search(reader, QUERIES["green"], k=9, level=level)
            assert {hit.key for hit in hits} == {"sub/green.mp4"}
    assert len(colour_index.search("green")) == 3


@pytest.mark.parametrize("what", ["manifest.json", "moment-main-00000002.faiss"])
def test_generation_that_cannot_be_opened_leaves_the_reader_where_it_is(
    colour_index, films, write_video, caplog, what
):
    colour_index.update(films)
    with closing(IndexReader(colour_index.folder)) as reader:
        replace_films(colour_index, films, write_video)
        path = colour_index.folder / what
        content = path.read_bytes()
        path.write_bytes(b"damaged")
        assert [hit.key for hit in search(reader, QUERIES["green"], k=9)] == ["sub/green.mp4"]
        assert "answers come from an earlier state of the index" in caplog.text
        path.write_bytes(content)
        Manifest.read(colour_index.folder).write(colour_index.folder)
        assert len(search(reader, QUERIES["green"], k=9)) == 3


def test_manifest_replaced_while_its_files_are_opened_is_read_again(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    random_index(folder, 20)
    read = Manifest.read.__func__
    calls = []

    def read_and_replace(cls, folder):
        manifest = read(cls, folder)
        if not calls:
            calls.append(manifest.generation)
            with IndexWriter(folder) as writer:
                writer.publish(rebuild=True)
        return manifest

    monkeypatch.setattr(Manifest, "read", classmethod(read_and_replace))
    with closing(IndexReader(folder)) as reader:
        assert (calls, reader.manifest.generation) == ([1], 2)
        assert len(search(reader, queries(1)[0], k=99)) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k=0: must be at least 1"), ({"k": 3, "level": "shot"}, "level=shot: must be one")],
)
def test_arguments_out_of_range_are_named(colour_index, films, options, message):
    colour_index.update(films)
    reader = IndexReader(colour_index.folder)
    with pytest.raises(ValueError, match=message):
        search(reader, QUERIES["red"], **options)
    reader.close()


# Damage


def damaged_file(folder, pattern):
    (path,) = folder.glob(pattern)
    path.write_bytes(b"damaged" * 3)
    return path


@pytest.mark.parametrize("pattern", ["*-main-*.faiss", "*-main-*.npy", CATALOGUE_NAME])
@pytest.mark.parametrize("level", LEVELS)
def test_damaged_file_is_named_in_one_line_when_opening(colour_index, films, level, pattern):
    colour_index.update(films)
    path = damaged_file(colour_index.folder, pattern.replace("*", level, 1))
    message = f"{path.name} is (missing or )?damaged.*run reelseek repair"
    with pytest.raises(ValueError, match=message) as raised:
        IndexReader(colour_index.folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("level", LEVELS)
def test_damaged_list_of_the_dead_is_named_in_one_line_when_opening(tmp_path, level):
    folder = tmp_path / "index"
    random_index(folder, 20)
    with IndexWriter(folder) as writer:
        writer.delete(["3.mp4"])
        writer.publish()
    path = damaged_file(folder, f"{level}-deleted-*.npy")
    with pytest.raises(ValueError, match=f"{path.name} is damaged: run .*repair") as raised:
        IndexReader(folder)
    assert "\n" not in str(raised.value)


def test_damaged_embeddings_are_named_in_one_line_when_opening(colour_index, films):
    colour_index.update(films)
    path = damaged_file(colour_index.folder, "embeddings/part-*.npy")
    with pytest.raises(ValueError, match=f"{path.name} is missing or damaged; run") as raised:
        IndexReader(colour_index.folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("level", LEVELS)
def test_damaged_embedding_is_named_in_one_line_when_searching(colour_index, films, level):
    colour_index.update(films)
    (path,) = colour_index.folder.glob("embeddings/part-*.npy")
    header, _, rows = path.read_bytes().partition(b"\n")
    path.write_bytes(header + b"\n" + bytes(len(rows)))
    message = rf"{path.name} is damaged at row \d+; run reelseek repair"
    with pytest.raises(ValueError, match=message) as raised:
        colour_index.search("red", level=level)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("level", LEVELS)
def test_damaged_entry_is_named_in_one_line_when_searching(colour_index, films, level):
    colour_index.update(films)
    path = colour_index.folder / CATALOGUE_NAME
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE videos SET path = '/else' WHERE key = 'red.mp4'")
    message = r"videos.sqlite is missing or damaged \(the entry of video \d+\); run .*repair"
    with pytest.raises(ValueError, match=message) as raised:
        colour_index.search("red", level=level)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["faiss", "npy"])
def test_missing_files_are_named(colour_index, films, monkeypatch, suffix):
    monkeypatch.setattr(generation, "_OPEN_ATTEMPTS", 3)
    colour_index.update(films)
    for path in colour_index.folder.glob(f"*.{suffix}"):
        path.unlink()
    message = rf"index=.*: lacks .*/video-main-00000001.{suffix}; run reelseek repair --index "
    with pytest.raises(ValueError, match=message) as raised:
        IndexReader(colour_index.folder)
    assert "\n" not in str(raised.value)


def test_revision_does_not_wait_for_searches_that_read_the_catalogue(tmp_path):
    random_index(tmp_path, num_videos=3)
    with closing(IndexReader(tmp_path)) as reader, reader.shards[0].catalogue.alone():
        thread = threading.Thread(target=lambda: revisions.append(reader.revision), daemon=True)
        revisions: list[int] = []
        thread.start()
        thread.join(30)
        assert revisions == [reader.manifest.revision]
