"""The proof of gather-then-score: shards of a collection, scored together, answer as one index."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from reelseek.indexing import IndexReader
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.store.texts import TimedText
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking.learning.features import FEATURE_NAMES
from reelseek.ranking.request import LEXICAL, SOURCES, VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.scoring import Scorer
from reelseek.ranking.token_matching.matching import TokenMatchingHead, TokenMatchingWeights
from tests.indexing.small_index import SETTINGS, D, random_video, unit

pytest.importorskip("tantivy")

WORDS = "dog cat sea boat red running the a in snow child ball river fire 1917 night".split()


def make_collection(rng, *, num):
    """Random videos with texts; some are copies of others under another name and title."""
    videos, texts = [], {}
    for number in range(num):
        video, embeddings = random_video(rng, f"v{number:03d}.mp4")
        if videos and rng.random() < 0.15:
            original, embeddings = videos[int(rng.integers(len(videos)))]
            video = replace(original, key=video.key, path=video.path)
        metadata = {"year": int(rng.integers(2000, 2005))}
        for field, share, most in (("title", 0.7, 5), ("captions", 0.4, 12), ("tags", 0.3, 1)):
            if rng.random() < share:
                said = " ".join(rng.choice(WORDS, size=int(rng.integers(1, most + 1))))
                metadata[field] = said if field == "title" else [said]
        videos.append((replace(video, metadata=metadata), embeddings))
        if rng.random() < 0.4:
            starts = np.sort(rng.uniform(0, video.duration_seconds, size=int(rng.integers(1, 4))))
            texts[video.key] = [
                TimedText("ocr", float(s), float(s) + 1, " ".join(rng.choice(WORDS, size=3)))
                for s in starts
            ]
    return videos, texts


def make_index(folder, videos, texts, sentences, *, faiss=None):
    with IndexWriter(folder, SETTINGS) as writer:
        for video, embeddings in videos:
            writer.add(video, embeddings)
        writer.save()
        records = writer.catalogue.records()
        for video, _ in videos:
            if video.key in texts:
                record = records[video.key]
                writer.catalogue.store_texts(record.id, "ocr", texts[video.key], engine="given")
        writer.publish(faiss, sentences=lambda: sentences)
    return folder


def random_request(rng):
    """A query of any kind."""
    words = rng.choice(WORDS, size=int(rng.integers(0, 5))).tolist()
    request = Request(
        unit(rng.normal(size=(1, D)))[0],
        words=words,
        tokens=unit(rng.normal(size=(max(1, len(words)), D))),
        names=["dog"] if rng.random() < 0.3 else [],
        where=str(rng.choice(["year >= 2002", "tag = 'dog'", "duration < 9"]))
        if rng.random() < 0.3
        else None,
        sources=[(VISUAL,), (LEXICAL,), SOURCES, SOURCES][int(rng.integers(4))],
    )
    if rng.random() < 0.25:
        request = replace(
            request, excluded=unit(rng.normal(size=(1, D))), excluded_words=[rng.choice(WORDS)]
        )
    elif rng.random() < 0.2:
        request = replace(request, steps=unit(rng.normal(size=(2, D))), sources=SOURCES)
    return request


class Trees:
    """A ranker that looks at every feature."""

    def score(self, features):
        weights = np.linspace(1, 2, len(FEATURE_NAMES))
        return (np.nan_to_num(features, nan=-1.0).astype(np.float64) * weights).sum(axis=1)


def scorers():
    rng = np.random.default_rng(3)
    heads = [
        TokenMatchingHead(*(rng.normal(size=s).astype(np.float32) for s in ((4, D), (4,), (4,))))
        for _ in range(2)
    ]
    return {
        "plain": Scorer(),
        "ranker": Scorer(ranker=Trees()),
        "token matching": Scorer(token_matching=TokenMatchingWeights(*heads)),
    }


def searched(retriever, request, **arguments):
    """What a search returns, or the message of what is wrong with it."""
    try:
        return retriever.search(request, **arguments)
    except ValueError as error:
        return str(error)


# Each collection is divided into these numbers of shards.
@pytest.mark.parametrize(("seed", "counts"), [(0, (1, 7)), (1, (2, 6)), (2, (3, 5)), (3, (4,))])
def test_shards_answer_as_one_index_does(tmp_path, seed, counts):
    rng = np.random.default_rng(seed)
    videos, texts = make_collection(rng, num=int(rng.integers(30, 120)))
    sentences = unit(rng.normal(size=(40, D)))
    whole = make_index(tmp_path / "whole", videos, texts, sentences)
    for count in counts:
        shard_of = rng.integers(count, size=len(videos))
        shard_of[:count] = np.arange(count)  # none is empty
        folders = [
            make_index(
                tmp_path / f"{count}-{shard}",
                [video for video, at in zip(videos, shard_of, strict=True) if at == shard],
                texts,
                sentences,
            )
            for shard in range(count)
        ]
        with ExitStack() as stack:
            readers = [IndexReader(folder) for folder in (whole, *folders)]
            for reader in readers:
                stack.callback(reader.close)
            for scorer in scorers().values():
                one = Retriever(readers[0], scorer=scorer)
                several = Retriever(readers[1:], scorer=scorer)
                for _ in range(12):
                    request = random_request(rng)
                    arguments = {
                        "k": int(rng.choice([1, 3, 10, 200])),
                        "level": str(rng.choice(["video", "moment"])),
                        "min_confidence": float(rng.choice([0.0, 0.0, 0.3])),
                    }
                    expected = searched(one, request, **arguments)
                    assert searched(several, request, **arguments) == expected, (request, arguments)


def test_many_texts_of_other_lengths_are_scored_by_the_statistics_of_all(tmp_path):
    """In one shard texts are long, in the other short, so that each has other lengths and
    frequencies than the whole; more match than are gathered."""
    rng = np.random.default_rng(7)
    videos = []
    for number in range(400):
        video, embeddings = random_video(rng, f"v{number:03d}.mp4", num_segments=1)
        size = int(rng.integers(20, 60)) if number % 2 else int(rng.integers(1, 4))
        title = " ".join(["dog", *rng.choice(WORDS[1:], size=size)])
        videos.append((replace(video, metadata={"title": title}), embeddings))
    sentences = np.empty((0, D), np.float32)
    folders = [
        make_index(tmp_path / "whole", videos, {}, sentences),
        make_index(tmp_path / "short", videos[0::2], {}, sentences),
        make_index(tmp_path / "long", videos[1::2], {}, sentences),
    ]
    with ExitStack() as stack:
        readers = [IndexReader(folder) for folder in folders]
        for reader in readers:
            stack.callback(reader.close)
        one, several = Retriever(readers[0]), Retriever(readers[1:])
        for query in (["dog"], ["dog", "boat"], ["fire", "river"]):
            request = Request(np.eye(D, dtype=np.float32)[0], words=query, sources=(LEXICAL,))
            for k in (5, 60):
                found = one.search(request, k=k, level="video")
                assert len(found) == k
                assert several.search(request, k=k, level="video") == found


def test_approximate_shards_find_what_their_faiss_indexes_find(tmp_path):
    """Each shard's recall is that of its own FAISS index; none is lost by putting them together."""
    rng = np.random.default_rng(1)
    videos = [random_video(rng, f"v{number:04d}.mp4") for number in range(600)]
    sentences = np.empty((0, D), np.float32)
    options = FaissOptions(kind="IVF16,SQ8")
    parts = [
        make_index(tmp_path / f"{shard}", videos[shard::3], {}, sentences, faiss=options)
        for shard in range(3)
    ]
    exact = make_index(tmp_path / "exact", videos, {}, sentences, faiss=FaissOptions(kind="flat"))
    with ExitStack() as stack:
        readers = [IndexReader(folder) for folder in (exact, *parts)]
        kinds = {reader.manifest.levels["video"].main.kind for reader in readers[1:]}
        assert kinds == {"IVF16,SQ8"}
        for reader in readers:
            stack.callback(reader.close)
        one, several = Retriever(readers[0]), Retriever(readers[1:])
        found = {"alone": 0, "together": 0}
        for query in unit(rng.normal(size=(20, D))):
            request = Request(query, sources=(VISUAL,))
            truth = {hit.id for hit in one.search(request, k=10, level="video")}
            alone = [Retriever(r).search(request, k=10, level="video") for r in readers[1:]]
            found["alone"] += len(truth & {hit.id for hits in alone for hit in hits})
            together = several.search(request, k=10, level="video")
            found["together"] += len(truth & {hit.id for hit in together})
        assert found["together"] == found["alone"]
        assert found["together"] >= 0.9 * 200
