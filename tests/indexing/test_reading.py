from itertools import pairwise

import numpy as np
import pytest

from indexing import IndexReader, IndexSettings, Manifest
from indexing.catalogue import Catalogue, FileStamp, NewVideo
from indexing.embeddings import EmbeddingParts
from indexing.moments import merge_moments
from indexing.publishing import CATALOGUE_NAME, EMBEDDINGS_NAME, publish
from tests.conftest import COLOURS
from tests.indexing.conftest import QUERIES
from vision import segment_spans

RED, GREEN, BLUE = COLOURS.values()


@pytest.fixture
def films(write_video, tmp_path):
    """`film`: red 0-6 s, green 6-12 s, blue 12-18 s; and a red and a green one of 5 seconds."""
    folder = tmp_path / "videos"
    write_video("film.mp4", [RED] * 12 + [GREEN] * 12 + [BLUE] * 12, fps=2, folder=folder)
    write_video("red.mp4", [RED] * 10, fps=2, folder=folder)
    write_video("sub/green.mp4", [GREEN] * 10, fps=2, folder=folder)
    return folder


def make_index(folder, embeddings_by_key, *, segment_seconds=4.0, overlap_seconds=2.0):
    """An index of given segment embeddings: `(S, D)` for each video, of 2 S + 2 seconds."""
    dim = next(iter(embeddings_by_key.values())).shape[1]
    segments = {"seconds": segment_seconds, "overlap_seconds": overlap_seconds}
    folder.mkdir()
    manifest = Manifest(IndexSettings({"name": "given"}, "f" * 32, dim, {}, segments))
    catalogue = Catalogue(folder / CATALOGUE_NAME)
    parts = EmbeddingParts(folder / EMBEDDINGS_NAME, embedding_dim=dim)
    for part, (key, rows) in enumerate(embeddings_by_key.items(), start=1):
        seconds = 2.0 * len(rows) + 2.0
        spans = segment_spans(seconds, segment_seconds=4.0, overlap_seconds=2.0)
        assert len(spans) == len(rows)
        whole = unit(rows.mean(axis=0, keepdims=True))
        parts.append(np.concatenate([whole, rows]), part=part)
        stamp = FileStamp(1, 1, key)
        video = NewVideo(
            key,
            f"/{key}",
            stamp,
            "ok",
            "",
            "pyav",
            len(rows),
            seconds,
            {"title": key.upper()},
            spans,
        )
        places = np.array([[part, row] for row in range(1 + len(rows))])
        catalogue.store([video], [places], next_part=part + 1)
    publish(folder, catalogue, parts, manifest)
    catalogue.close()


def unit(rows):
    """Normalised rows, as precise as the index keeps them."""
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows.astype(np.float16).astype(np.float32)


def random_videos(rng, num_videos):
    """Videos of 1 to 60 segments that change slowly, as films do."""
    videos = {}
    for i in range(num_videos):
        steps = rng.normal(size=(int(rng.integers(1, 61)), 8)).cumsum(axis=0)
        videos[f"{i}.mp4"] = unit(steps + rng.normal(size=8))
    return videos


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
    plain = np.array(COLOURS[colour]) / np.linalg.norm(COLOURS[colour])
    assert best.score == pytest.approx(max(plain), abs=0.02)


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


@pytest.mark.parametrize("k", [1, 3, 10, 1000])
def test_moments_equal_those_of_all_segments_of_all_videos(tmp_path, k):
    rng = np.random.default_rng(k)
    videos = random_videos(rng, 40)
    make_index(tmp_path / "index", videos)
    reader = IndexReader(tmp_path / "index")
    for query in unit(rng.normal(size=(5, 8))):
        expected = []
        for key, rows in videos.items():
            spans = segment_spans(2.0 * len(rows) + 2, segment_seconds=4.0, overlap_seconds=2.0)
            expected += [(key, moment) for moment in merge_moments(rows @ query, spans)]
        expected.sort(key=lambda entry: -entry[1].score)
        hits = reader.search(query, k=k, level="moment")
        assert [(hit.key, hit.start_seconds, hit.end_seconds) for hit in hits] == [
            (key, moment.start_seconds, moment.end_seconds) for key, moment in expected[:k]
        ]
    reader.close()


def test_videos_equal_brute_force(tmp_path):
    rng = np.random.default_rng(0)
    videos = random_videos(rng, 40)
    make_index(tmp_path / "index", videos)
    reader = IndexReader(tmp_path / "index")
    for query in unit(rng.normal(size=(5, 8))):
        scores = {key: float(unit(rows.mean(axis=0)) @ query) for key, rows in videos.items()}
        expected = sorted(scores, key=lambda key: -scores[key])[:7]
        hits = reader.search(query, k=7)
        assert [hit.key for hit in hits] == expected
        for hit in hits:
            assert hit.score == pytest.approx(scores[hit.key], abs=1e-3)
            best = int((videos[hit.key] @ query).argmax())
            assert hit.best_seconds == 2.0 * best + 2
            assert hit.metadata == {"title": hit.key.upper()}
    reader.close()


def test_long_video_that_matches_evenly_does_not_crowd_out_the_others(tmp_path):
    rng = np.random.default_rng(0)
    near = np.eye(8)[0] + rng.normal(scale=0.02, size=(900, 8))
    others = {f"{i}.mp4": unit(np.eye(8)[[0, 0]] + np.eye(8)[[i]]) for i in (1, 2)}
    make_index(tmp_path / "index", {"long.mp4": unit(near)} | others)
    reader = IndexReader(tmp_path / "index")
    hits = reader.search(np.eye(8, dtype=np.float32)[0], k=3, level="moment")
    reader.close()
    assert [(hit.start_seconds, hit.end_seconds) for hit in hits] == [(0, 1802), (0, 6), (0, 6)]
    assert [hit.key for hit in hits][:1] == ["long.mp4"]
    assert sorted(hit.key for hit in hits[1:]) == ["1.mp4", "2.mp4"]


@pytest.mark.parametrize("level", ["video", "moment"])
def test_video_deleted_after_it_was_published_is_not_returned(colour_index, films, level):
    colour_index.update(films)
    reader = IndexReader(colour_index.folder)  # stays with the generation it opened
    (films / "sub" / "green.mp4").unlink()
    colour_index.update(films)
    hits = reader.search(QUERIES["green"], k=100, level=level)
    reader.close()
    assert hits[0].key == "film.mp4"
    assert {hit.key for hit in hits} == {"film.mp4", "red.mp4"}
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize(
    ("level", "after"),
    [
        ("video", "videos"),
        ("video", "segments_of_videos"),
        ("moment", "video_ids_of_segments"),
        ("moment", "segments_of_videos"),
        ("moment", "videos"),
    ],
)
def test_video_deleted_in_the_middle_of_a_search_does_not_upset_it(
    colour_index, films, level, after, monkeypatch
):
    colour_index.update(films)
    look_up = getattr(Catalogue, after)

    def look_up_and_lose(self, ids):
        found = look_up(self, ids)
        writer = Catalogue(colour_index.folder / CATALOGUE_NAME)
        writer.store([], [], deleted_keys=["sub/green.mp4"])
        writer.close()
        return found

    reader = IndexReader(colour_index.folder)
    monkeypatch.setattr(Catalogue, after, look_up_and_lose)
    keys = {hit.key for hit in reader.search(QUERIES["green"], k=100, level=level)}
    monkeypatch.undo()
    assert {"film.mp4", "red.mp4"} <= keys
    hits = reader.search(QUERIES["green"], k=100, level=level)
    reader.close()
    assert {hit.key for hit in hits} == {"film.mp4", "red.mp4"}


def test_open_reader_goes_on_while_everything_is_replaced(colour_index, films, write_video):
    colour_index.update(films)
    reader = IndexReader(colour_index.folder)
    for name in ("film.mp4", "red.mp4"):
        write_video(name, [BLUE] * 7, fps=2, folder=films)
    colour_index.update(films)
    assert [hit.key for hit in reader.search(QUERIES["green"], k=9)] == ["sub/green.mp4"]
    reader.close()
    assert len(colour_index.search("green")) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [({"k": 0}, "k=0: must be at least 1"), ({"k": 3, "level": "shot"}, "level=shot: must be one")],
)
def test_arguments_out_of_range_are_named(colour_index, films, options, message):
    colour_index.update(films)
    reader = IndexReader(colour_index.folder)
    with pytest.raises(ValueError, match=message):
        reader.search(QUERIES["red"], **options)
    reader.close()


def damaged_file(folder, pattern):
    (path,) = folder.glob(pattern)
    path.write_bytes(b"damaged" * 3)
    return path


@pytest.mark.parametrize("pattern", ["video-*.faiss", "moment-*.faiss", "catalogue.sqlite"])
def test_damaged_file_is_named_in_one_line_when_opening(colour_index, films, pattern):
    colour_index.update(films)
    path = damaged_file(colour_index.folder, pattern)
    with pytest.raises(ValueError, match=f"{path.name} is (missing or )?damaged") as raised:
        IndexReader(colour_index.folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("level", ["video", "moment"])
def test_damaged_embeddings_are_named_in_one_line_when_searching(colour_index, films, level):
    colour_index.update(films)
    path = damaged_file(colour_index.folder, "embeddings/part-*.npy")
    with pytest.raises(ValueError, match=f"{path.name} is missing or damaged") as raised:
        colour_index.search("red", level=level)
    assert "\n" not in str(raised.value)


def test_missing_faiss_files_are_named(colour_index, films):
    colour_index.update(films)
    for path in colour_index.folder.glob("*.faiss"):
        path.unlink()
    with pytest.raises(ValueError, match="lacks the FAISS files of generation 1"):
        IndexReader(colour_index.folder)
