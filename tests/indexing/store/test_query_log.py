"""Sentences that are kept to measure and tune with: how they are kept, and what comes of them."""

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.store import query_log
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.writer import IndexWriter
from tests.indexing.searching import search
from tests.indexing.small_index import SETTINGS, D, queries, random_video

IVF = FaissOptions(kind="IVF16,SQ8", recall=0.9)


def read(folder, name=query_log.QUERIES):
    return query_log.read(folder, name, embedding_dim=D)


def fill(folder, *, num_videos=150, options=IVF, sentences=None, first=0):
    rng = np.random.default_rng(first)
    with IndexWriter(folder, SETTINGS) as writer:
        for i in range(first, first + num_videos):
            writer.add(*random_video(rng, f"{i}.mp4", num_segments=4))
        return writer.publish(options, sentences=sentences)


def test_queries_come_back_as_they_were_kept(tmp_path):
    asked = queries(5)
    assert read(tmp_path).shape == (0, D)
    query_log.append(tmp_path, query_log.QUERIES, asked[:2])
    query_log.append(tmp_path, query_log.QUERIES, asked[2:])
    query_log.append(tmp_path, query_log.SENTENCES, asked[:1])
    np.testing.assert_array_equal(read(tmp_path), asked)
    np.testing.assert_array_equal(read(tmp_path, query_log.SENTENCES), asked[:1])


@pytest.mark.parametrize("position", range(2 * D + 4))
def test_damaged_query_is_left_out(tmp_path, position):
    asked = queries(3)
    query_log.append(tmp_path, query_log.QUERIES, asked)
    path = tmp_path / query_log.QUERIES
    data = bytearray(path.read_bytes())
    data[2 * D + 4 + position] ^= 1
    path.write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path), asked[[0, 2]])


def test_query_that_was_not_finished_is_left_out(tmp_path):
    asked = queries(3)
    query_log.append(tmp_path, query_log.QUERIES, asked)
    path = tmp_path / query_log.QUERIES
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(read(tmp_path), asked[:2])


def test_log_grows_no_further_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(query_log, "_LIMIT_BYTES", 3 * (2 * D + 4))
    for query in queries(10):
        query_log.append(tmp_path, query_log.QUERIES, query[None])
    assert len(read(tmp_path)) == 3


def test_index_is_tuned_for_sentences_which_are_asked_for_once(tmp_path):
    asked = queries(40)
    calls = []

    def sentences():
        calls.append(1)
        return asked

    manifest = fill(tmp_path, sentences=sentences)
    assert manifest.recall.keys() == {"stored", "sentences"}
    assert min(manifest.recall.values()) >= IVF.recall
    manifest = fill(tmp_path, first=150, options=None)  # by a tool that has no model
    assert manifest.recall.keys() == {"stored", "sentences"}
    manifest = fill(tmp_path, first=300, sentences=sentences)
    assert manifest.recall["sentences"] >= IVF.recall
    assert len(calls) == 1


def test_exact_index_keeps_sentences_and_measures_nothing(tmp_path):
    asked = queries(40)
    assert fill(tmp_path, options=None, sentences=lambda: asked).recall == {}
    np.testing.assert_array_equal(read(tmp_path, query_log.SENTENCES), asked)


def test_logged_queries_count_from_the_next_publishing(tmp_path):
    assert fill(tmp_path).recall.keys() == {"stored"}
    reader = IndexReader(tmp_path, log_queries=True)
    for query in queries(31):
        search(reader, query, k=3)
    assert fill(tmp_path, num_videos=1, first=150).recall.keys() == {"stored"}
    search(reader, queries(1)[0], k=3)
    reader.close()
    manifest = fill(tmp_path, num_videos=1, first=151)
    assert manifest.recall.keys() == {"stored", "logged"}
    assert manifest.recall["logged"] >= IVF.recall - 0.05


def test_index_that_cannot_be_written_to_is_searched_without_a_log(tmp_path, monkeypatch, caplog):
    fill(tmp_path)

    def refuse(*_):
        raise OSError("read-only")

    monkeypatch.setattr(query_log, "append", refuse)
    reader = IndexReader(tmp_path, log_queries=True)
    for query in queries(2):
        assert search(reader, query, k=3)
    reader.close()
    assert caplog.text.count("queries are not kept") == 1
