"""The searcher of a service: another's encoder, new generations without a pause, parts of the
index as queries, pages."""

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reelseek import Searcher
from reelseek.indexing import IndexMismatchError
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.shards.reader import ShardReader
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking import Cursor, Similar
from reelseek.ranking.confidence import DEFAULT_CALIBRATION, Background
from reelseek.ranking.cursor import MAX_SHOWN
from reelseek.ranking.request_builder import QueryAnalyzer
from reelseek.ranking.retrieval import BackgroundScores
from tests.indexing.small_index import (
    SETTINGS,
    D,
    ids_by_key,
    make_index,
    queries,
    random_index,
    random_video,
    unit,
    video_of,
)

AXES = np.eye(D, dtype=np.float32)


class GivenEncoder:
    """A sentence's embedding is drawn from its words; it notes what it encodes."""

    fingerprint = SETTINGS.fingerprint

    def __init__(self):
        self.encoded = []

    def encode(self, part):
        assert isinstance(part, str)
        self.encoded.append(part)
        return self.sentences([part])[0]

    def sentences(self, sentences):
        rows = [np.random.default_rng(list(s.encode())).normal(size=D) for s in sentences]
        return unit(np.array(rows).reshape(-1, D))

    def tokens(self, sentences):
        raise AssertionError("nothing matches tokens here")


@pytest.fixture
def open_searcher():
    opened = []

    def open_one(folder, **options):
        opened.append(Searcher.open(folder, encoder=GivenEncoder(), **options))
        return opened[-1]

    yield open_one
    for searcher in opened:
        searcher.close()


def keys(hits):
    return [hit.key for hit in hits]


def add_videos(folder, *videos):
    with IndexWriter(folder) as writer:
        for video, rows in videos:
            writer.add(video, rows)
        writer.publish()


def delete(folder, *deleted):
    """As a writer does, without publishing."""
    with closing(Catalogue(folder / CATALOGUE_NAME)) as catalogue:
        for record in list(catalogue.scan()):
            if record.key in deleted:
                catalogue.store([], [], deleted_keys=[record.key], root=record.root)


# Another's encoder

WITHOUT_TORCH = """
import sys
from pathlib import Path
import numpy as np
from reelseek import Searcher
from reelseek.ranking import Similar

class Encoder:
    fingerprint = "f" * 32
    def encode(self, part):
        return np.eye(8, dtype=np.float32)[0]
    def sentences(self, sentences):
        return np.eye(8, dtype=np.float32)[: len(sentences)]

with Searcher.open(sys.argv[1], encoder=Encoder(), refresh="manual") as searcher:
    searcher.warm_up()
    hits = searcher.search("a dog without a cat, then a sea", level="moment")
    assert searcher.search([Similar(hits[0].id), "by night"])
    assert searcher.match_segments("a dog", [hits[0].id])
    assert not searcher.refresh()
print(*sorted({"torch", "open_clip", "torchvision", "av", "decord"} & sys.modules.keys()), end="")
"""


def test_with_an_encoder_no_model_and_no_torch_is_loaded(tmp_path):
    random_index(tmp_path / "index", 20)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "index")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_encoder_of_another_model_is_refused(tmp_path, monkeypatch):
    random_index(tmp_path, 3)
    monkeypatch.setattr(GivenEncoder, "fingerprint", "0" * 32)
    with pytest.raises(IndexMismatchError, match="the encoder's is another"):
        Searcher.open(tmp_path, encoder=GivenEncoder())


def test_encoder_and_model_contradict_each_other(tmp_path):
    with pytest.raises(ValueError, match="model and encoder: give one"):
        Searcher.open(tmp_path, encoder=GivenEncoder(), model="mini")
    with pytest.raises(ValueError, match="refresh=never: must be auto or manual"):
        Searcher.open(tmp_path, encoder=GivenEncoder(), refresh="never")


def test_searching_by_a_sentence_is_searching_by_its_embedding(tmp_path, open_searcher):
    random_index(tmp_path, 30)
    searcher = open_searcher(tmp_path)
    embedding = searcher.encoder.sentences(["dog"])[0]
    for level in ("video", "moment"):
        by_words = searcher.search("dog", level=level, sources=["visual"])
        given = searcher.search(3 * embedding, level=level)
        assert keys(by_words) == keys(given)
        assert [hit.score for hit in given] == pytest.approx(
            [hit.score for hit in by_words], rel=1e-3
        )


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.zeros(D), "or is 0"),
        (np.full(D, np.nan), "not finite"),
        (np.ones(D + 1), r"\(9,\): must be \(8,\)"),
    ],
)
def test_embedding_that_is_none_is_refused(tmp_path, open_searcher, embedding, message):
    random_index(tmp_path, 3)
    with pytest.raises(ValueError, match=message):
        open_searcher(tmp_path).search(embedding)


# New generations


def test_service_goes_over_only_when_told_to(tmp_path, open_searcher):
    random_index(tmp_path, 5)
    served, followed = open_searcher(tmp_path, refresh="manual"), open_searcher(tmp_path)
    before = served.revision
    add_videos(tmp_path, video_of("new.mp4", AXES[:1]))
    assert keys(followed.search(AXES[0], k=1)) == ["new.mp4"]
    assert "new.mp4" not in keys(served.search(AXES[0], k=100))
    assert served.generation == 1 and served.revision > before
    assert served.refresh() is True
    results = served.search(AXES[0], k=1)
    assert (keys(results), results.generation, served.generation) == (["new.mp4"], 2, 2)
    assert served.refresh() is False


def test_deleted_video_is_gone_from_the_old_generation_at_once(tmp_path, open_searcher):
    random_index(tmp_path, 5)
    searcher = open_searcher(tmp_path, refresh="manual")
    revision = searcher.revision
    best = searcher.search(AXES[0], k=1)[0]
    delete(tmp_path, best.key)
    assert searcher.revision > revision
    assert best.key not in keys(searcher.search(AXES[0], k=100))
    with pytest.raises(ValueError, match=f"id={best.id}: no video"):
        searcher.search(Similar(best.id))


def test_searches_are_answered_while_the_next_generation_is_prepared(
    tmp_path, open_searcher, monkeypatch
):
    random_index(tmp_path, 5)
    searcher = open_searcher(tmp_path, refresh="manual")
    searcher.warm_up()
    expected = searcher.search("dog")
    add_videos(tmp_path, video_of("new.mp4", AXES[:1]))
    answers = []

    def search_beside(method):
        def beside(self, *arguments, **options):
            other = threading.Thread(target=lambda: answers.append(searcher.search("dog")))
            other.start()
            other.join(timeout=60)
            return method(self, *arguments, **options)

        return beside

    for owner, name in ((BackgroundScores, "_measured"), (QueryAnalyzer, "__init__")):
        monkeypatch.setattr(owner, name, search_beside(getattr(owner, name)))
    measured = ShardReader._measured
    monkeypatch.setattr(
        ShardReader,
        "_measured",
        lambda self, snapshot: answers.append(None) or measured(self, snapshot),
    )
    assert searcher.refresh()
    assert len([each for each in answers if each is None]) == 1
    others = [each for each in answers if each is not None]
    assert len(others) >= 2  # two levels; the vocabulary is the same, unless words are indexed
    assert all(each == expected and each.generation == 1 for each in others)
    assert searcher.search("dog").generation == 2


def test_after_going_over_nothing_is_left_to_prepare(tmp_path, open_searcher, monkeypatch):
    random_index(tmp_path, 5)
    searcher = open_searcher(tmp_path, refresh="manual")
    searcher.warm_up()
    add_videos(tmp_path, video_of("new.mp4", AXES[:1], metadata={"title": "word", "tags": ["t"]}))
    assert searcher.refresh()
    for owner, name in (
        (ShardReader, "_measured"),
        (BackgroundScores, "_measured"),
        (QueryAnalyzer, "__init__"),
    ):
        monkeypatch.setattr(owner, name, None)
    assert searcher.search("word").generation == 2


def test_two_generations_in_use_are_measured_once_each(tmp_path, monkeypatch):
    random_index(tmp_path, 5)
    measured = []
    measure = ShardReader._measured
    monkeypatch.setattr(
        ShardReader,
        "_measured",
        lambda self, snapshot: measured.append(snapshot) or measure(self, snapshot),
    )
    searcher = Searcher.open(tmp_path, encoder=GivenEncoder(), refresh="manual")
    analyzer = searcher._builder.analyzer()
    old = searcher.retriever.background()
    turns = [threading.Event() for _ in range(2)]
    seen = []

    def hold_the_old_one():
        with searcher.reader.one_generation():
            turns[0].set()
            turns[1].wait(timeout=60)
            for _ in range(3):
                seen.append((searcher.retriever.background(), searcher._builder.analyzer()))

    holder = threading.Thread(target=hold_the_old_one)
    holder.start()
    turns[0].wait(timeout=60)
    add_videos(tmp_path, video_of("new.mp4", AXES[:1], metadata={"tags": ["t"]}))
    assert searcher.refresh()
    new = searcher.retriever.background()
    turns[1].set()
    holder.join()
    assert all(background is old and found is analyzer for background, found in seen)
    assert searcher.retriever.background() is new is not old
    assert len(measured) == 2
    searcher.close()


def test_generation_that_cannot_be_opened_leaves_the_service_where_it_is(
    tmp_path, open_searcher, caplog
):
    random_index(tmp_path, 5)
    searcher = open_searcher(tmp_path, refresh="manual")
    expected = searcher.search(AXES[0])
    manifest = tmp_path / "manifest.json"
    manifest.write_text("damaged")
    assert searcher.refresh() is False
    assert "answers come from an earlier state" in caplog.text
    assert searcher.search(AXES[0]) == expected


def test_generation_that_cannot_be_prepared_is_tried_again(tmp_path, open_searcher, monkeypatch):
    random_index(tmp_path, 5)
    searcher = open_searcher(tmp_path, refresh="manual")
    add_videos(tmp_path, video_of("new.mp4", AXES[:1]))
    with monkeypatch.context() as patched:
        patched.setattr(searcher.retriever, "warm_up", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            searcher.refresh()
        assert searcher.search(AXES[0]).generation == 1
    assert searcher.refresh()
    assert searcher.search(AXES[0]).generation == 2


# Parts of the index


@pytest.fixture
def films(tmp_path):
    """`mixed`: axis 0, 0-4 s, axis 1, 4-6 s; `zero`, `one` of one axis each; and a copy."""
    mixed, rows = video_of("mixed.mp4", AXES[[0, 0, 1]])
    near = [
        video_of("zero.mp4", AXES[[0]] + 0.1 * AXES[[2]]),
        video_of("one.mp4", AXES[[1]] + 0.1 * AXES[[3]]),
        video_of("two.mp4", AXES[[2]]),
    ]
    folder = tmp_path / "films"
    make_index(folder, [(mixed, rows), (replace(mixed, key="copy.mp4"), rows), *near])
    return folder


def test_similar_videos_leave_out_the_video_and_its_copies(films, open_searcher):
    searcher = open_searcher(films)
    ids = ids_by_key(searcher.reader)
    whole = searcher.search(Similar(ids["mixed.mp4"]), k=2)
    assert keys(whole) == ["zero.mp4", "one.mp4"]
    assert [hit.rank for hit in whole] == [1, 2]
    every = searcher.search([Similar(ids["mixed.mp4"])], k=100, level="moment")
    assert set(keys(every)) == {"zero.mp4", "one.mp4", "two.mp4"}
    assert searcher.encoder.encoded == []


def test_similar_to_a_stretch_is_similar_to_the_segments_in_it(films, open_searcher):
    searcher = open_searcher(films)
    (id,) = [ids_by_key(searcher.reader)["mixed.mp4"]]
    assert keys(searcher.search(Similar(id, 4.0, 6.0), k=1)) == ["one.mp4"]
    assert keys(searcher.search(Similar(id, None, 4.0), k=1)) == ["zero.mp4"]
    assert keys(searcher.search(Similar(id, 4.5), k=1)) == ["one.mp4"]
    # Of segments that overlap the stretch, the mean.
    found = searcher.search(Similar(id, 3.0, 5.0), k=3)
    expected = unit(AXES[0] + AXES[1])
    one = unit(AXES[1] + 0.1 * AXES[3])
    assert [hit.score for hit in found if hit.key == "one.mp4"] == pytest.approx(
        [float(expected @ one)], abs=2e-3
    )
    with pytest.raises(ValueError, match=f"id={id}: nothing of the video is between 6 and 7 s"):
        searcher.search(Similar(id, 6.0, 7.0))


@pytest.mark.parametrize(("start", "end"), [(-1.0, None), (2.0, 2.0), (3.0, 1.0), (np.nan, None)])
def test_stretch_that_is_none_is_refused(start, end):
    with pytest.raises(ValueError, match="_seconds="):
        Similar("x", start, end)


def test_unknown_id_is_named(films, open_searcher):
    for query in (Similar("nobody"), ["a dog", Similar("nobody")]):
        with pytest.raises(ValueError, match="id=nobody: no video of the index has this id"):
            open_searcher(films).search(query)


def test_similar_beside_other_parts(films, open_searcher):
    searcher = open_searcher(films)
    ids = ids_by_key(searcher.reader)
    both = searcher.search([Similar(ids["zero.mp4"]), AXES[1]], k=1)
    assert keys(both) == ["copy.mp4"] or keys(both) == ["mixed.mp4"]
    less = searcher.search({Similar(ids["mixed.mp4"]): 1.0, Similar(ids["zero.mp4"]): -0.9}, k=1)
    assert keys(less) == ["one.mp4"]
    pairs = searcher.search([(AXES[0], 1.0), (AXES[1], -0.5)], k=1)
    assert keys(pairs) == ["zero.mp4"]
    with_words = searcher.search([Similar(ids["zero.mp4"]), "a sea"])
    assert searcher.encoder.encoded == ["a sea"] and "zero.mp4" in keys(with_words)


@pytest.mark.parametrize("level", ["video", "moment"])
def test_similar_finds_what_a_search_by_its_embedding_finds_but_itself(
    tmp_path, open_searcher, level
):
    rng = np.random.default_rng(7)
    videos = [random_video(rng, f"{i}.mp4") for i in range(40)]
    copies = [(replace(video, key=f"copy {video.key}"), rows) for video, rows in videos[:10]]
    oracle = make_index(tmp_path, videos + copies)
    searcher = open_searcher(tmp_path)
    ids = ids_by_key(searcher.reader)
    for key in ("0.mp4", "copy 3.mp4", "20.mp4"):
        video, rows = oracle.held[key]
        content = video.signature.content_sha256
        every = searcher.search(rows[0], k=1000, level=level)
        expected = [
            (hit.key, hit.start_seconds)
            for hit in every
            if oracle.held[hit.key][0].signature.content_sha256 != content
        ]
        for k in (1, 5, 1000):
            found = searcher.search(Similar(ids[key]), k=k, level=level)
            some = [(hit.key, hit.start_seconds) for hit in found]
            if level == "video" or k == 1000:
                assert some == expected[:k]
            assert len(some) == min(k, len(expected))
            assert all(oracle.held[name][0].signature.content_sha256 != content for name, _ in some)


# How well every part matches


def test_segments_of_some_videos_with_their_probabilities(tmp_path, open_searcher):
    rng = np.random.default_rng(3)
    sentences = queries(40, seed=5)
    videos = {f"{i}.mp4": random_video(rng, f"{i}.mp4", num_segments=3 + i) for i in range(6)}
    with IndexWriter(tmp_path, SETTINGS) as writer:
        for video, rows in videos.values():
            writer.add(video, rows)
        writer.publish(sentences=lambda: sentences)
    searcher = open_searcher(tmp_path)
    ids = ids_by_key(searcher.reader)
    (query,) = queries(1)
    found = searcher.match_segments(query, [ids["1.mp4"], ids["4.mp4"], "nobody"])
    assert found.keys() == {ids["1.mp4"], ids["4.mp4"]}
    every = np.concatenate([rows[1 : 1 + len(video.spans)] for video, rows in videos.values()])
    background = Background.measure(unit(sentences), every)
    for key in ("1.mp4", "4.mp4"):
        video, rows = videos[key]
        segments = rows[1 : 1 + len(video.spans)]
        matches = found[ids[key]]
        np.testing.assert_array_equal(matches.spans, video.spans)
        np.testing.assert_allclose(matches.scores, segments @ query, atol=1e-3)
        expected = DEFAULT_CALIBRATION.probability(background.features(unit(query), segments))
        np.testing.assert_allclose(matches.probabilities, expected, atol=2e-3)
    # A hit's own probability is that of its best segment.
    results = searcher.search(query, k=3, level="moment")
    again = searcher.match_segments(results.request, [hit.id for hit in results])
    for hit in results:
        matches = again[hit.id]
        at = int(np.abs(matches.spans.mean(axis=1) - hit.best_seconds).argmin())
        assert matches.probabilities[at] == pytest.approx(hit.confidence, abs=1e-6)


def test_without_sentences_there_are_no_probabilities(tmp_path, open_searcher):
    random_index(tmp_path, 3)
    searcher = open_searcher(tmp_path)
    (matches,) = searcher.match_segments("a dog", searcher.reader.video_ids()[:1]).values()
    assert matches.probabilities is None and len(matches.scores) == len(matches.spans) > 0
    with pytest.raises(TypeError, match="not int"):
        searcher.match_segments(7, [])


# Times and meaning


def test_results_say_how_long_each_stage_took_and_what_was_meant(tmp_path, open_searcher):
    random_index(tmp_path, 10)
    searcher = open_searcher(tmp_path)
    results = searcher.search("a dog under 30 seconds")
    stages = ["analysis", "encoding", "gathering", "scoring", "hits"]
    assert list(results.stage_seconds) == stages
    assert all(0 < seconds < 60 for seconds in results.stage_seconds.values())
    assert results.meaning == searcher.analyze("a dog under 30 seconds")
    assert [one.where for one in results.meaning.constraints] == ["duration < 30"]
    plain = searcher.search("a dog", analyze=False)
    assert plain.meaning is None and "analysis" not in plain.stage_seconds
    assert searcher.search([AXES[0], "a dog"]).meaning is None


# Pages


def shown(hits):
    return [(hit.id, hit.start_seconds, hit.end_seconds) for hit in hits]


def all_pages(searcher, query, *, k, between=lambda: None, **options):
    after, pages = None, []
    while True:
        page = searcher.search(query, k=k, after=after, **options)
        pages.append(page)
        if page.next_cursor is None:
            return pages
        assert len(str(page.next_cursor)) < 3500
        after = Cursor.parse(str(page.next_cursor))
        assert after == page.next_cursor
        between()


def texts_of(rng):
    words = "dog cat sea boat red running snow child".split()
    return {"title": " ".join(rng.choice(words, size=int(rng.integers(1, 5))))}


@pytest.mark.parametrize("query", ["red dog", "dog without snow", AXES[0]], ids=str)
@pytest.mark.parametrize("level", ["video", "moment"])
@pytest.mark.parametrize("k", [7, 60])
def test_pages_show_everything_once(tmp_path, open_searcher, query, level, k):
    rng = np.random.default_rng(11)
    make_index(
        tmp_path, [random_video(rng, f"{i}.mp4", metadata=texts_of(rng)) for i in range(120)]
    )
    searcher = open_searcher(tmp_path)
    pages = all_pages(searcher, query, k=k, level=level)
    hits = [hit for page in pages for hit in page]
    assert len(set(shown(hits))) == len(hits)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(len(page) == k for page in pages[:-1])
    every = searcher.search(query, k=1000, level=level)
    assert set(shown(hits)) == set(shown(every)) or len(hits) > MAX_SHOWN - k
    # The first 50 candidates are looked at for each of the first pages, which are one ranking.
    first = shown(searcher.search(query, k=49, level=level))
    assert k > 49 or shown(hits)[:49] == first


@pytest.mark.parametrize("level", ["video", "moment"])
def test_new_generations_between_pages_repeat_nothing(tmp_path, open_searcher, level):
    rng = np.random.default_rng(12)
    videos = [random_video(rng, f"{i}.mp4", metadata=texts_of(rng)) for i in range(60)]
    make_index(tmp_path, videos)
    searcher = open_searcher(tmp_path)
    k = 9 if level == "video" else 30
    before = set(shown(searcher.search("red dog", k=1000, level=level)))
    new = iter(range(1000))

    def change():
        number = next(new)
        added = [
            random_video(rng, f"new {number} {i}.mp4", metadata={"title": "red dog"})
            for i in range(3)
        ]
        copied = replace(videos[number][0], key=f"copy {number}.mp4"), videos[number][1]
        add_videos(tmp_path, *added, copied)

    hits = [
        h for page in all_pages(searcher, "red dog", k=k, level=level, between=change) for h in page
    ]
    assert len(set(shown(hits))) == len(hits)
    contents = [(record_of(searcher, hit), hit.start_seconds, hit.end_seconds) for hit in hits]
    assert len(set(contents)) == len(contents)  # nor as a copy
    # What was there all the time is shown, itself or its copy.
    others = {(copy.id, h.start_seconds, h.end_seconds) for h in hits for copy in h.also_as}
    assert before <= set(shown(hits)) | others or len(hits) > MAX_SHOWN - k


def record_of(searcher, hit):
    return searcher.retriever.videos([hit.id])[hit.id].content


def test_deleted_between_pages_is_not_shown(tmp_path, open_searcher):
    random_index(tmp_path, 20)
    searcher = open_searcher(tmp_path, refresh="manual")
    first = searcher.search(AXES[0], k=5)
    gone = searcher.search(AXES[0], k=7)[5].key
    delete(tmp_path, gone)
    rest = searcher.search(AXES[0], k=100, after=first.next_cursor)
    assert len(rest) == 14 and gone not in keys(rest)
    assert rest.next_cursor is None


def test_pages_end_when_no_hit_is_probable(tmp_path, open_searcher):
    rng = np.random.default_rng(4)
    with IndexWriter(tmp_path, SETTINGS) as writer:
        for number in range(100):
            writer.add(*random_video(rng, f"{number}.mp4"))
        writer.publish(sentences=lambda: queries(40, seed=9))
    searcher = open_searcher(tmp_path)
    (query,) = queries(1, seed=2)
    probabilities = sorted(hit.confidence for hit in searcher.search(query, k=100))
    pages = all_pages(searcher, query, k=10, min_confidence=probabilities[-15])
    assert sum(map(len, pages)) >= 10
    assert all(h.confidence >= probabilities[-15] for page in pages for h in page)
    assert sum(not page for page in pages) <= 1


@pytest.mark.parametrize("text", ["", "x", "!!!!", "AAAA", "AAE", "AQ", "AAEAAAAAAAA", "é" * 9])
def test_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(ValueError, match="cursor="):
        Cursor.parse(text)


def test_pages_end_at_the_limit(tmp_path, open_searcher):
    rng = np.random.default_rng(1)
    make_index(tmp_path, [random_video(rng, f"{i}.mp4", num_segments=1) for i in range(600)])
    pages = all_pages(open_searcher(tmp_path), AXES[0], k=100)
    assert [len(page) for page in pages] == [100] * 5
    hits = [hit for page in pages for hit in page]
    assert len(set(shown(hits))) == 500
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
