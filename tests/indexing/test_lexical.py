import numpy as np
import pytest

from indexing import IndexReader
from indexing.timed_texts import TimedText
from indexing.writer import IndexWriter
from tests.indexing.small_index import SETTINGS, failed_video, video_of

pytest.importorskip("tantivy")

VIDEOS = {
    "park/Dog_catches-frisbee.mp4": {"captions": ["A dog catches a frisbee.", "grass and sky"]},
    "beach.mp4": {"captions": ["people at a beach"], "title": "Summer Holidays", "tags": ["Sea"]},
    "quiet.mp4": {"captions": ["a beach with nobody"], "tags": ["sea", "empty beach"]},
    "sign.mp4": {"captions": ["a street at night"], "author": "frisbee"},
}


def add(writer, key, metadata=None, *, seed=0):
    rng = np.random.default_rng([seed, len(key)])
    writer.add(*video_of(key, rng.normal(size=(2, 8)), metadata=metadata or {}))


def ids_of(writer):
    return {key: record.id for key, record in writer.catalogue.records().items()}


def make(folder, videos=VIDEOS, texts=()):
    """Texts are `(key, source, start, end, text)`."""
    with IndexWriter(folder, SETTINGS) as writer:
        for key, metadata in videos.items():
            add(writer, key, metadata)
        writer.save()
        ids = ids_of(writer)
        for key, source, start, end, text in texts:
            timed = TimedText(source, start, end, text)
            writer.catalogue.store_texts(ids[key], source, [timed], engine="given")
        return writer.publish()


@pytest.fixture
def folder(tmp_path):
    make(
        tmp_path / "index",
        texts=[
            ("sign.mp4", "ocr", 3.0, 4.5, "SALE today"),
            ("sign.mp4", "speech", 1.0, 2.0, "look, a frisbee sale"),
            ("quiet.mp4", "speech", 0.0, 1.0, "people are loud"),
        ],
    )
    return tmp_path / "index"


@pytest.fixture
def reader(folder):
    reader = IndexReader(folder)
    yield reader
    reader.close()


def found(reader, words, **options):
    hits = reader.search_words(words.split(), **{"k": 10} | options)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True) and all(score > 0 for score in scores)
    return [hit.key for hit in hits]


def test_smoke(reader):
    print(reader.search_words(["frisbee"], k=5))
    print(reader.search_words(["frisbee", "sale"], k=5, level="moment"))
    print(found(reader, "beach", excluded=["people"]))
    print(reader.vocabulary())
    assert found(reader, "dogs") == ["park/Dog_catches-frisbee.mp4"]
