"""Requests to small indexes whose embeddings and texts are known, and so what they should find."""

import random
import threading
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.confidence import Calibration
from reelseek.ranking.request import LEXICAL, VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.scoring import Scorer
from reelseek.text.segmentation import words
from tests.indexing.searching import search
from tests.indexing.small_index import (
    SETTINGS,
    D,
    queries,
    random_index,
    unit,
    video_of,
)

pytest.importorskip("tantivy")

AXES = np.eye(D, dtype=np.float32)
DOG, CAT, SEA, OTHER = AXES[0], AXES[1], AXES[2], AXES[3]


def filler(rng, num):
    """Segments of nothing in particular, with a little of everything."""
    return unit(np.abs(rng.normal(size=(num, D))) * 0.05 + AXES[4 + rng.integers(D - 4, size=num)])


def shows(*subjects):
    """A segment each, of two seconds, that shows a subject among other things."""
    among = filler(np.random.default_rng(5), len(subjects))
    return unit(np.stack(subjects) + 0.1 * among)


@pytest.fixture
def make(tmp_path):
    """Makes an index of named videos, `(segments, metadata, timed texts)`, and opens it."""
    opened = []

    def make_index(videos, *, sentences=None):
        with IndexWriter(tmp_path / "index", SETTINGS) as writer:
            for key, (segments, metadata, _) in videos.items():
                writer.add(*video_of(key, segments, metadata=metadata))
            writer.save()
            records = writer.catalogue.records()
            for key, (_, _, texts) in videos.items():
                if texts:
                    writer.catalogue.store_texts(records[key].id, "ocr", texts, engine="test")
            writer.publish(sentences=None if sentences is None else lambda: sentences)
        opened.append(IndexReader(tmp_path / "index"))
        return Retriever(opened[-1])

    yield make_index
    for reader in opened:
        reader.close()


def collection(rng, *, num=12, **videos):
    """These videos among others."""
    others = {f"other{i}.mp4": (filler(rng, 3), {}, []) for i in range(num)}
    named = {f"{name}.mp4": video for name, video in videos.items()}
    return others | {key: (*video, {}, [])[:3] for key, video in named.items()}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def keys(hits):
    return [hit.key for hit in hits]


def sources(hit):
    return {each.source for each in hit.evidence}


@pytest.mark.parametrize("level", ["video", "moment"])
def test_pictures_alone_are_what_the_index_finds(tmp_path, level):
    random_index(tmp_path, 40)
    reader = IndexReader(tmp_path)
    for query in queries(5):
        expected = search(reader, query, k=7, level=level)
        found = Retriever(reader).search(Request(query), k=7, level=level)
        assert [(h.rank, h.key, h.score, h.start_seconds) for h in found] == [
            (h.rank, h.key, h.score, h.start_seconds) for h in expected
        ]
        assert all(sources(hit) == {VISUAL} for hit in found)
    reader.close()


def test_words_and_pictures_together_go_before_either(make, rng):
    retriever = make(
        collection(
            rng,
            both=(shows(DOG), {"title": "a dog runs"}),
            seen=(shows(DOG), {"title": "holiday"}),
            said=(shows(SEA), {"title": "a dog runs"}),
            half=(shows(SEA), {"title": "a cat runs"}),
        )
    )
    asked = ("a", "dog", "runs")
    found = retriever.search(Request(DOG, words=asked), k=3, level="video")
    assert keys(found)[0] == "both.mp4"
    assert set(keys(found)) == {"both.mp4", "seen.mp4", "said.mp4"}
    assert sources(found[0]) == {VISUAL, LEXICAL}
    text = next(each for each in found[0].evidence if each.source == LEXICAL)
    assert text.fraction == pytest.approx(1) and "title: a dog runs" in text.detail
    only = Request(DOG, words=asked, sources=(LEXICAL,))
    assert set(keys(retriever.search(only, k=2, level="video"))) == {"both.mp4", "said.mp4"}
    without = Request(DOG, words=asked, sources=(VISUAL,))
    assert set(keys(retriever.search(without, k=2, level="video"))) == {"both.mp4", "seen.mp4"}


def test_share_of_a_text_counts_rare_words_more(make, rng):
    titles = {f"t{i}": (shows(OTHER), {"title": "a walk outside"}) for i in range(8)}
    some = {"rare": "zebra", "inflected": "walks", "whole": "zebras walking", "none": "nothing"}
    titles |= {name: (shows(OTHER), {"title": title}) for name, title in some.items()}
    retriever = make(collection(rng, **titles))
    request = Request(OTHER, words=("walk", "zebra"), sources=(LEXICAL,))
    found = retriever.search(request, k=30, level="video")
    fractions = {hit.key.removesuffix(".mp4"): hit.evidence[0].fraction for hit in found}
    assert fractions["rare"] > 0.6
    assert fractions["inflected"] == fractions["t0"] < 0.4  # endings do not matter
    assert fractions["whole"] == pytest.approx(1)
    assert "none" not in fractions


def test_text_with_hardly_a_word_is_no_evidence_beside_pictures(make, rng):
    videos = collection(rng, seen=(shows(DOG), {}), said=(shows(OTHER), {"title": "man in a car"}))
    retriever = make(videos)
    asked = ("dogs", "running", "in", "the", "street")
    found = retriever.search(Request(DOG, words=asked), k=3, level="video")
    assert found[0].key == "seen.mp4"
    assert all(sources(hit) == {VISUAL} for hit in found)


@pytest.mark.parametrize("level", ["video", "moment"])
@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("a dog", ["A day in Paris", "a", "A-roll", "b-roll"]),
        ("the dog in the sea with 2 cats", ["The office", "in", "With the Beatles", "Part 2"]),
        ("der Hund auf dem Sofa", ["Der Tag", "Auf dem Weg", "dem"]),
        ("un chien dans la neige", ["La vie", "Un jour dans Paris"]),
        ("IMG dog", ["IMG_0001", "IMG 0002"]),
        ("一只狗在海滩上", ["巴黎的一天", "在路上", "一个"]),
        ("the", ["The office", "the"]),
    ],
)
def test_words_that_say_nothing_are_no_evidence(make, rng, query, titles, level):
    pytest.importorskip("spacy")
    pytest.importorskip("rjieba")
    traps = {f"trap{i}": (shows(OTHER), {"title": title}) for i, title in enumerate(titles)}
    retriever = make(collection(rng, seen=(shows(DOG), {}), **traps))
    asked = Request(DOG, words=words(query))
    alone = retriever.search(replace(asked, sources=(VISUAL,)), k=5, level=level)
    assert retriever.search(asked, k=5, level=level) == alone


@pytest.mark.parametrize("level", ["video", "moment"])
def test_one_word_of_several_is_no_evidence(make, rng, level):
    titles = ["The street", "Kitchen street 7", "A dog in Paris", "runs"]
    traps = {f"trap{i}": (shows(OTHER), {"title": title}) for i, title in enumerate(titles)}
    half = (shows(OTHER), {"title": "street dog"})
    retriever = make(collection(rng, seen=(shows(DOG), {}), half=half, **traps))
    asked = Request(DOG, words=words("a black dog runs along the street"))
    found = retriever.search(asked, k=20, level=level)
    assert {hit.key for hit in found if LEXICAL in sources(hit)} == {"half.mp4"}


@pytest.mark.parametrize("level", ["video", "moment"])
def test_one_word_alone_is_evidence_for_what_looks_like_it(make, rng, level):
    likely = (shows(DOG), {"title": "The dog"})
    says_more = (shows(DOG), {"title": "The dog of Paris"})
    unlike = (shows(OTHER), {"title": "The dog"})
    retriever = make(collection(rng, num=60, likely=likely, says_more=says_more, unlike=unlike))
    asked = Request(DOG, words=words("a black dog runs"))
    found = retriever.search(asked, k=20, level=level)
    assert {hit.key for hit in found if LEXICAL in sources(hit)} == {"likely.mp4"}
    assert found[0].key == "likely.mp4"


@pytest.mark.parametrize(
    ("title", "counts"), [("beach with ball", True), ("beach ball in the rain", False)]
)
def test_two_words_of_many_are_evidence_where_a_text_says_nothing_else(make, rng, title, counts):
    retriever = make(collection(rng, seen=(shows(DOG), {}), said=(shows(OTHER), {"title": title})))
    query = (
        "two black dogs, a brown cat and some happy girls play football with a ball on the beach"
    )
    found = retriever.search(Request(DOG, words=words(query)), k=20, level="video")
    assert {hit.key for hit in found if LEXICAL in sources(hit)} == (
        {"said.mp4"} if counts else set()
    )


@pytest.mark.parametrize("level", ["video", "moment"])
@pytest.mark.parametrize(("name", "first"), [("some", "sure.mp4"), ("most", "most.mp4")])
def test_what_hardly_matches_is_below_what_surely_does(make, rng, level, name, first):
    sentences = unit(rng.normal(size=(60, D)))
    titles = {"sure": "", "some": "a dog in the snow", "most": "a dog runs on the beach"}
    subjects = {"sure": DOG, "some": -DOG, "most": -DOG}
    videos = {name: (shows(subjects[name]), {"title": title}) for name, title in titles.items()}
    asked = words("a dog runs in the snow on a beach")
    others = {key: video for key, video in videos.items() if key in ("sure", name)}
    retriever = make(collection(rng, **others), sentences=sentences)
    retriever._scorer = Scorer(
        calibration=Calibration((10.0, 0.0, 0.0), -10.0),  # by the score alone
        weights={LEXICAL: 100.0},  # by ranks alone, the text would be first
    )
    found = retriever.search(Request(DOG, words=asked), k=30, level=level)
    probable = {hit.key: hit.confidence for hit in found}
    assert probable["sure.mp4"] > 0.5
    assert probable[f"{name}.mp4"] < 0.1
    assert any(LEXICAL in sources(hit) for hit in found if hit.key == f"{name}.mp4")
    assert found[0].key == first
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_words_that_say_nothing_are_found_when_texts_are_searched_alone(make, rng):
    retriever = make(collection(rng, office=(shows(OTHER), {"title": "The office"})))
    request = Request(DOG, words=("the",), sources=(LEXICAL,))
    assert keys(retriever.search(request, k=3, level="video")) == ["office.mp4"]


def test_number_that_is_typed_alone_is_a_name(make, rng):
    segments = shows(OTHER)
    videos = {f"trip/IMG_000{i}.mp4": (segments, {}, []) for i in range(4)}
    videos["film.mp4"] = (segments, {"title": "1917"}, [])
    retriever = make(videos | collection(rng))
    for query, key in (("IMG_0002", "trip/IMG_0002.mp4"), ("1917", "film.mp4")):
        found = retriever.search(Request(DOG, words=words(query)), k=20, level="video")
        assert [hit.key for hit in found if LEXICAL in sources(hit)] == [key]


def test_words_that_say_nothing_exclude_nothing(make, rng):
    retriever = make(collection(rng, park=(shows(DOG), {"title": "a dog in the park"})))
    request = Request(DOG, words=("dog",), excluded_words=("the", "cat"), sources=(LEXICAL,))
    assert keys(retriever.search(request, k=3, level="video")) == ["park.mp4"]


@pytest.mark.parametrize("level", ["video", "moment"])
def test_filter_holds_for_every_source(make, rng, level):
    retriever = make(
        collection(
            rng,
            old=(shows(DOG), {"title": "dog", "year": 2001}),
            new=(shows(DOG), {"title": "dog", "year": 2020}),
        )
    )
    request = Request(DOG, words=("dog",), where="year > 2010")
    assert keys(retriever.search(request, k=5, level=level)) == ["new.mp4"]


@pytest.mark.parametrize("level", ["video", "moment"])
def test_what_is_excluded_goes_last(make, rng, level):
    videos = collection(
        rng,
        dog=(shows(OTHER, DOG, OTHER),),
        both=(shows(CAT, unit(DOG + CAT), CAT),),
        near=(shows(unit(DOG + 0.3 * OTHER)),),
    )
    retriever = make(videos)
    # "both" is nearer to what is wanted, or as near, when nothing is excluded.
    query_embedding = unit(DOG + 0.2 * CAT)
    excluded = Request(query_embedding, excluded=CAT[None])
    found = [hit for hit in retriever.search(excluded, k=80, level=level) if "other" not in hit.key]
    shown = [hit for hit in found if hit.key == "both.mp4"]
    assert found[0].key in ("dog.mp4", "near.mp4")
    assert all("without" in sources(hit) for hit in shown)
    plain = retriever.search(Request(query_embedding), k=80, level=level)
    before = next(hit.score for hit in plain if hit.key == "both.mp4")
    assert shown[0].score < before
    kept = next(hit for hit in found if hit.key == "near.mp4")
    assert kept.score == pytest.approx(next(h.score for h in plain if h.key == "near.mp4"))


def test_texts_with_excluded_words_are_no_evidence(make, rng):
    retriever = make(
        collection(
            rng,
            dogs=(shows(SEA), {"title": "a dog"}),
            both=(shows(SEA), {"title": "a dog and a cat"}),
        )
    )
    request = Request(
        DOG, words=("dog",), excluded=CAT[None], excluded_words=("cats",), sources=(LEXICAL,)
    )
    assert keys(retriever.search(request, k=5, level="video")) == ["dogs.mp4"]


def test_events_are_found_in_their_order(make, rng):
    between = filler(rng, 1)
    films = {
        "forward": np.concatenate([shows(DOG), between, shows(CAT)]),
        "reversed": np.concatenate([shows(CAT), between, shows(DOG)]),
        "one": np.concatenate([shows(DOG), filler(rng, 3)]),
    }
    retriever = make(collection(rng, **{name: (segments,) for name, segments in films.items()}))
    request = Request(unit(DOG + CAT), steps=np.stack([DOG, CAT]))
    found = retriever.search(request, k=3, level="moment")
    assert found[0].key == "forward.mp4"
    assert (found[0].start_seconds, found[0].end_seconds) == (0, 6)
    assert found[0].best_seconds == 1
    assert sources(found[0]) == {"temporal_order"}
    other = Request(unit(DOG + CAT), steps=np.stack([CAT, DOG]))
    assert keys(retriever.search(other, k=1, level="moment")) == ["reversed.mp4"]
    whole = retriever.search(request, k=1, level="video")[0]
    assert (whole.key, whole.start_seconds, whole.end_seconds) == ("forward.mp4", 0, 6)


def test_what_was_read_leads_to_its_second(make, rng):
    segments = filler(rng, 6)
    texts = [TimedText("ocr", 7.0, 8.5, "EXIT closed"), TimedText("ocr", 1.0, 2.0, "welcome")]
    retriever = make(collection(rng, num=6, sign=(segments, {}, texts)))
    request = Request(OTHER, words=("exit",))
    hit = retriever.search(request, k=1, level="moment")[0]
    assert hit.key == "sign.mp4"
    assert hit.start_seconds <= 7.75 < hit.end_seconds
    assert hit.best_seconds == pytest.approx(7.75)
    assert "ocr: EXIT closed" in str(hit.evidence[-1])
    whole = retriever.search(
        Request(OTHER, words=("exit",), sources=(LEXICAL,)), k=1, level="video"
    )
    assert (whole[0].key, whole[0].best_seconds) == ("sign.mp4", pytest.approx(7.75))
    alone = Request(OTHER, words=("exit",), sources=(LEXICAL,))
    moment = retriever.search(alone, k=1, level="moment")[0]
    assert (moment.start_seconds, moment.end_seconds) == (7.0, 8.5)


@pytest.mark.parametrize("level", ["video", "moment"])
def test_hits_are_as_probable_as_they_stand_out(make, rng, level):
    sentences = unit(rng.normal(size=(60, D)))
    retriever = make(collection(rng, dog=(shows(DOG),)), sentences=sentences)
    found = retriever.search(Request(DOG), k=13, level=level)
    assert found[0].key == "dog.mp4"
    probabilities = [hit.confidence for hit in found]
    assert all(0 < p < 1 for p in probabilities)
    assert max(probabilities) == probabilities[0]
    least = (probabilities[0] + sorted(probabilities)[-2]) / 2
    kept = retriever.search(Request(DOG), k=13, level=level, min_confidence=least)
    assert keys(kept) == ["dog.mp4"]
    assert retriever.search(Request(DOG), k=13, level=level, min_confidence=1.0) == []


def test_texts_that_answer_stay_whatever_the_picture(make, rng):
    sentences = unit(rng.normal(size=(60, D)))
    videos = collection(
        rng,
        said=(shows(SEA), {"title": "a dog runs"}),
        little=(shows(SEA), {"title": "a"}),
    )
    retriever = make(videos, sentences=sentences)
    request = Request(DOG, words=("a", "dog", "runs"))
    assert keys(retriever.search(request, k=5, level="video", min_confidence=1.0)) == ["said.mp4"]
    lacking = Request(DOG, words=("a", "giraffe", "eats"))
    assert retriever.search(lacking, k=5, level="video", min_confidence=1.0) == []


def test_index_without_sentences_has_no_probabilities(make, rng):
    retriever = make(collection(rng, dog=(shows(DOG),)))
    found = retriever.search(Request(DOG), k=3, level="video", min_confidence=0.9)
    assert len(found) == 3
    assert all(hit.confidence is None for hit in found)


def test_spreads_are_those_of_the_collection(make, rng):
    retriever = make(collection(rng, **{f"dog{i}": (shows(DOG),) for i in range(12)}))
    (reader,) = retriever._readers
    whole = np.stack([v.embeddings[0] for v in retriever.videos(reader.video_ids()).values()])
    queries = np.stack([DOG, CAT])
    found = retriever.background().spreads(queries)
    np.testing.assert_allclose(found, (whole @ queries.T).std(axis=0), rtol=1e-5)
    assert found[0] > 2 * found[1]


def test_few_videos_tell_no_spread(make, rng):
    retriever = make(collection(rng, num=3, dog=(shows(DOG),)))
    assert retriever.background().spreads(np.stack([DOG, CAT])).tolist() == [1, 1]


def test_threads_of_one_reader_answer_while_videos_come_and_go(tmp_path):
    rng = np.random.default_rng(3)
    sentences = unit(rng.normal(size=(60, D)))

    def videos(number):
        some = [(f"{number}-{i}.mp4", shows(DOG, OTHER, CAT)) for i in range(4)]
        return [video_of(key, each, metadata={"title": "a dog"}) for key, each in some]

    def change(number):
        with IndexWriter(tmp_path, SETTINGS) as writer:
            for video in videos(number):
                writer.add(*video)
            writer.delete(f"{number - 1}-{i}.mp4" for i in range(4) if number)
            writer.publish(sentences=lambda: sentences)

    change(0)
    requests = [
        Request(DOG),
        Request(DOG, words=("a", "dog")),
        Request(DOG, words=("dog",), excluded=CAT[None], excluded_words=("cat",)),
        Request(unit(DOG + CAT), steps=np.stack([DOG, CAT])),
    ]
    reader = IndexReader(tmp_path)
    learned = types.SimpleNamespace(score=lambda features: np.nan_to_num(features[:, 0]))
    retrievers = [Retriever(reader), Retriever(reader, scorer=Scorer(ranker=learned))]
    stopped, answered = threading.Event(), Counter()

    def search(seed):
        draws = random.Random(seed)
        while not stopped.is_set():
            level = draws.choice(["video", "moment"])
            number = draws.randrange(len(requests))
            retriever = draws.choice(retrievers)
            hits = retriever.search(requests[number], k=6, level=level)
            places = {(hit.id, hit.start_seconds, hit.end_seconds) for hit in hits}
            assert len(places) == len(hits)
            answered[number] += 1

    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(search, seed) for seed in range(3)]
        for number in range(1, 9):
            change(number)
        stopped.set()
        for thread in threads:
            thread.result()
    reader.close()
    assert min(answered[number] for number in range(len(requests))) > 0


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"k": 0}, "k=0"),
        ({"min_confidence": 1.5}, "min_confidence=1.5"),
        ({"level": "shot"}, "level=shot"),
    ],
)
def test_wrong_values_are_named(make, rng, values, part):
    retriever = make(collection(rng))
    with pytest.raises(ValueError, match=part):
        retriever.search(Request(DOG), **{"k": 3, "level": "video", **values})


@pytest.mark.parametrize("chosen", [(), ("visual", "sound")])
def test_unknown_source_is_refused(chosen):
    with pytest.raises(ValueError, match=r"sources=.*visual, lexical"):
        Request(DOG, sources=chosen)
