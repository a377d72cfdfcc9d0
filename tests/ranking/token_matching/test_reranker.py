"""Late interaction in searches, on indexes of given embeddings, and the command that learns it."""

import json

import numpy as np
import pytest

from reelseek.configs.schema import TokenMatchingConfig
from reelseek.indexing import IndexReader
from reelseek.indexing.writer import IndexWriter
from reelseek.ranking import TokenMatchingHead, TokenMatchingWeights, match_tokens, searcher
from reelseek.ranking.request import VISUAL, Request
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.scoring import Scorer
from reelseek.ranking.token_matching import __main__ as command
from reelseek.ranking.token_matching.reranker import RERANKED, combined, rerank
from reelseek.ranking.visual import nearest
from tests.indexing.small_index import (
    SETTINGS,
    D,
    ids_by_key,
    make_index,
    random_video,
    unit,
    video_of,
)

AXES = np.eye(D, dtype=np.float32)


def equal_weights():
    head = TokenMatchingHead(np.zeros((2, D), np.float32), np.zeros(2), np.zeros(2))
    return TokenMatchingWeights(head, head)


@pytest.fixture
def make(tmp_path):
    """Makes an index of videos, `video_of`'s values by key, and opens it."""
    opened = []

    def make_reader(videos):
        with IndexWriter(tmp_path / "index", SETTINGS) as writer:
            for video in videos:
                writer.add(*video)
            writer.publish()
        opened.append(IndexReader(tmp_path / "index"))
        return opened[-1]

    yield make_reader
    for reader in opened:
        reader.close()


def test_frames_are_those_that_were_kept(make):
    rng = np.random.default_rng(0)
    frames = {f"{n}.mp4": unit(rng.normal(size=(n, D))) for n in (1, 5, 12, 30)}
    reader = make([video_of(key, each[:3], frames=each) for key, each in frames.items()])
    ids = ids_by_key(reader)
    retriever = Retriever(reader)
    found = {
        id: video.frames
        for id, video in retriever.videos([*ids.values(), "gone"], num_frames=12).items()
    }
    assert found.keys() == set(ids.values())
    for key in ("1.mp4", "5.mp4", "12.mp4"):
        np.testing.assert_allclose(found[ids[key]], frames[key], atol=1e-3)
    every = retriever.videos([ids["30.mp4"]], num_frames=100)[ids["30.mp4"]].frames
    np.testing.assert_allclose(every, frames["30.mp4"], atol=1e-3)
    middles = [1, 3, 6, 8, 11, 13, 16, 18, 21, 23, 26, 28]  # of twelve equal parts
    np.testing.assert_array_equal(found[ids["30.mp4"]], every[middles])
    assert retriever.videos([], num_frames=3) == {}


def test_video_whose_frames_show_each_word_comes_first(make):
    """Both are about as near on the whole; one shows what two tokens name, the other a mixture."""
    mixture = unit(AXES[0] + AXES[1])
    filler = [random_video(np.random.default_rng(i), f"other{i}.mp4") for i in range(8)]
    reader = make(
        [
            video_of("mixed.mp4", mixture[None], frames=np.stack([mixture, mixture])),
            video_of("both.mp4", (mixture + 0.1 * AXES[2])[None], frames=AXES[:2]),
            *filler,
        ]
    )
    request = Request(mixture, tokens=AXES[:2])
    plain = Retriever(reader).search(request, k=2, level="video")
    assert [hit.key for hit in plain] == ["mixed.mp4", "both.mp4"]
    retriever = Retriever(reader, scorer=Scorer(token_matching=equal_weights()))
    found = retriever.search(request, k=2, level="video")
    assert [hit.key for hit in found] == ["both.mp4", "mixed.mp4"]
    picture, tokens = found[0].evidence
    assert (picture.source, picture.rank) == (VISUAL, 1)
    assert tokens.score == pytest.approx(match_tokens(AXES[:2], AXES[:2]))
    assert found[0].score > found[1].score
    # A moment has no frames of its own, and an image no tokens.
    moments = retriever.search(request, k=2, level="moment")
    assert moments == Retriever(reader).search(request, k=2, level="moment")
    image = Request(mixture)
    assert retriever.search(image, k=2, level="video") == plain


def test_first_fifty_are_reordered_and_the_rest_stays(make):
    rng = np.random.default_rng(1)
    reader = make([random_video(rng, f"{i}.mp4") for i in range(RERANKED + 20)])
    query, tokens = unit(rng.normal(size=D)), unit(rng.normal(size=(3, D)))
    num = RERANKED + 20
    videos = Retriever(reader).videos(reader.video_ids(), num_frames=12).values()
    scores = {video.id: video.scores(query) for video in videos}
    matches, _ = nearest(videos, scores, num=num, num_gathered=num, level="video")
    assert len(matches) == num
    found = rerank(matches, tokens, equal_weights())
    ids = [match.video.id for match in matches]
    assert sorted(match.video.id for match in found[:RERANKED]) == sorted(ids[:RERANKED])
    assert [match.video.id for match in found[:RERANKED]] != ids[:RERANKED]
    assert found[RERANKED:] == matches[RERANKED:]


def test_combined_scores():
    scores, others = [0.3, 0.2, 0.1], np.array([10.0, 20.0, 30.0])
    assert combined(scores, others) == pytest.approx([0.2, 0.2, 0.2])  # they contradict each other
    assert combined(scores, -others) == pytest.approx(scores)
    assert combined(scores, np.array([1.0, 1.0, 1.0])) == pytest.approx(scores)
    assert combined(scores, np.array([5.0, np.nan, 1.0])) == pytest.approx([0.3, 0.2, 0.1])


class GivenEncoder:
    """A sentence is a number: its tokens are the first frames of that video."""

    def __init__(self, frames):
        self._frames = frames

    def tokens(self, sentences):
        return [self._frames[int(sentence)][:2] for sentence in sentences]

    def sentences(self, sentences):
        return np.stack([unit(self._frames[int(s)].mean(axis=0)) for s in sentences])


class GivenSearcher:
    def __init__(self, folder, frames):
        self.reader, self.encoder = IndexReader(folder), GivenEncoder(frames)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()


def learn(folder, frames, monkeypatch, capsys, **options):
    monkeypatch.setattr(searcher.Searcher, "open", lambda *_, **__: GivenSearcher(folder, frames))
    config = TokenMatchingConfig(
        **{"index": str(folder), "output": str(folder.parent / "weights"), "test_fraction": 0.4}
        | {"epochs": 2, "seed": 0, "device": "cpu"}
        | options
    )
    command.main(config)
    return json.loads(capsys.readouterr().out)


def test_command_learns_from_captions_and_measures_the_rest(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(2)
    frames = [unit(rng.normal(size=(4, D))) for _ in range(30)]
    videos = [
        video_of(f"{n}.mp4", each[:2], frames=each, metadata={"captions": [str(n)]})
        for n, each in enumerate(frames)
    ]
    make_index(tmp_path / "index", [*videos, video_of("silent.mp4", frames[0])])
    summary = learn(tmp_path / "index", frames, monkeypatch, capsys)
    assert (summary["captions"], summary["tested"]) == (18, 12)
    assert 0 <= summary["R@1_without"] <= summary["R@1"] <= summary["R@10"] <= 100
    assert summary["R@1"] > 50  # each caption's tokens are frames of its video
    weights = TokenMatchingWeights.load(tmp_path / "weights", fingerprint=SETTINGS.fingerprint)
    assert weights.token.hidden.shape[1] == D
    with pytest.raises(ValueError, match="another model"):
        TokenMatchingWeights.load(tmp_path / "weights", fingerprint="0" * 32)
    nothing_tested = learn(tmp_path / "index", frames, monkeypatch, capsys, test_fraction=0.0)
    assert (nothing_tested["tested"], nothing_tested["R@1"]) == (0, None)


def test_index_without_captions_is_refused(tmp_path, monkeypatch, capsys):
    make_index(tmp_path / "index", [random_video(np.random.default_rng(3), "a.mp4")])
    with pytest.raises(ValueError, match="0 of its videos have captions"):
        learn(tmp_path / "index", [], monkeypatch, capsys)
    assert not (tmp_path / "weights").exists()
