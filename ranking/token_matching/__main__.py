"""`python -m ranking.token_matching index=DIR output=DIR`: learns token and frame weights."""

from contextlib import closing
from itertools import product
from pathlib import Path

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.schema import TokenMatchingConfig
from reelseek.indexing import IndexReader
from reelseek.indexing.lexical.documents import texts_of
from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.ranking.retrieval import Retriever
from reelseek.ranking.token_matching.matching import MAX_FRAMES
from reelseek.ranking.token_matching.reranker import RERANKED, combined

_MIN_VIDEOS = 4

USAGE = """usage: python -m ranking.token_matching index=DIR output=DIR [name=value ...]

Trains the weights of token matching on the captions of an index; a search with token_matching=DIR
then reorders its best videos by them. The last line on stdout is a JSON object: R@1 and
R@10 of captions of videos that were not trained on, among these, with and without."""


def main(config: TokenMatchingConfig) -> None:
    check_can_write_folder("output", Path(config.output))
    with closing(IndexReader(Path(config.index))) as reader:
        retriever = Retriever(reader)
        known = retriever.videos(reader.video_ids())
        captions = {id: texts_of(video.record)["captions"] for id, video in known.items()}
        videos = [id for id, some in captions.items() if some]
        _require_enough(videos, config)  # before frames are read, for which PyTorch is loaded
        known = retriever.videos(videos, num_frames=MAX_FRAMES)
        videos = sorted(id for id in videos if len(known[id].frames))
        _require_enough(videos, config)
        videos = np.random.default_rng(config.seed).permutation(videos).tolist()
        whole = np.stack([known[id].embeddings[0] for id in videos])
        fingerprint = reader.manifest.settings.fingerprint
    sentences = [caption for id in videos for caption in captions[id]]
    own = np.repeat(np.arange(len(videos)), [len(captions[id]) for id in videos])

    from reelseek.ranking.searcher import Searcher
    from reelseek.ranking.token_matching.training import train_token_matching

    with Searcher.open(config.index, device=config.device) as searcher:
        tokens = searcher.encoder.tokens(sentences)
        queries = searcher.encoder.sentences(sentences)
    num_tested = int(config.test_fraction * len(videos))
    tested, trained = np.flatnonzero(own < num_tested), np.flatnonzero(own >= num_tested)
    shown = [known[id].frames for id in videos]
    weights = train_token_matching(
        [tokens[row] for row in trained],
        [shown[own[row]] for row in trained],
        video_ids=own[trained].tolist(),
        num_epochs=config.epochs,
        seed=config.seed,
        fingerprint=fingerprint,
        show_progress=True,
    )
    weights.save(Path(config.output))
    ranks: dict[str, list[int]] = {"": [], "_without": []}
    for row in tested:
        best, scores = _best(queries[row], whole[:num_tested])
        late = weights.scores(
            tokens[row],
            np.concatenate([shown[index] for index in best]),
            counts=[len(shown[index]) for index in best],
        )
        reordered = best[np.argsort(-combined(scores.tolist(), late), kind="stable")]
        for name, order in (("", reordered), ("_without", best)):
            ranks[name].append([*order.tolist(), own[row]].index(own[row]) + 1)
    summary: dict[str, float | None] = {"captions": len(trained), "tested": len(tested)}
    for k, (name, found) in product((1, 10), ranks.items()):
        fraction = 100 * float(np.mean(np.array(found) <= k)) if found else None
        summary[f"R@{k}{name}"] = None if fraction is None else round(fraction, 1)
    command_line.print_json(summary)


def _require_enough(videos: list[str], config: TokenMatchingConfig) -> None:
    if len(videos) < _MIN_VIDEOS:
        raise ValueError(
            f"index={config.index}: {len(videos)} of its videos have captions to learn from, and "
            f"at least {_MIN_VIDEOS} are needed"
        )


def _best(query: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the videos that a search reorders, best first, and their scores."""
    scores = whole @ query
    best = np.argsort(-scores, kind="stable")[:RERANKED]
    return best, scores[best]


if __name__ == "__main__":
    command_line.run(main, TokenMatchingConfig, usage=USAGE)
