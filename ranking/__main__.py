"""`python -m ranking judgements=FILE index=DIR output=DIR`: learns what each evidence counts."""

import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.schema import RankerConfig
from reelseek.indexing import IndexReader
from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.ranking.learning.judgements import Judgement, read_judgements
from reelseek.ranking.learning.ranker import ndcg, require_lightgbm, train_ranker

USAGE = """usage: python -m ranking judgements=FILE.jsonl index=DIR output=DIR [name=value ...]

Trains a ranker (LambdaMART) on judged or clicked videos of an index; a search with ranker=DIR then
uses it. The last line on stdout is a JSON object: NDCG@10 of queries that were not trained on, in
the ranker's order and in that of searches without one."""


def main(config: RankerConfig) -> None:
    judgements = read_judgements(Path(config.judgements))
    check_can_write_folder("output", Path(config.output))
    require_lightgbm()
    with closing(IndexReader(Path(config.index))) as reader:
        judged, num_missing = _by_query(judgements, reader.ids_by_name())
    if not judged:
        raise ValueError(
            f"judgements={config.judgements}: none of its videos is in index={config.index}"
        )

    from reelseek.ranking.searcher import Searcher

    searcher = Searcher.open(config.index, device=config.device, entities=True)
    try:
        features, fused = {}, {}
        for query, grades in judged.items():
            request = searcher.request(query)
            # Described beside what a search finds, as the ranker will see them.
            every = list(dict.fromkeys([*grades, *searcher.retriever.candidates(request)]))
            features[query] = searcher.retriever.describe(request, every)[: len(grades)]
            fused[query] = searcher.retriever.order(request, list(grades))
    finally:
        searcher.close()
    queries = np.random.default_rng(config.seed).permutation(list(judged)).tolist()
    num_tested = int(config.test_fraction * len(queries))
    tested, trained = queries[:num_tested], queries[num_tested:]
    ranker = train_ranker(
        np.concatenate([features[query] for query in trained]),
        np.concatenate([list(judged[query].values()) for query in trained]),
        groups=np.repeat(np.arange(len(trained)), [len(judged[query]) for query in trained]),
        seed=config.seed,
    )
    ranker.save(Path(config.output))

    def mean_ndcg(order_of: dict[str, list[str]]) -> float | None:
        values = [ndcg([judged[query][video] for video in order_of[query]]) for query in tested]
        known = [value for value in values if not np.isnan(value)]
        return round(float(np.mean(known)), 4) if known else None

    learned = {
        query: np.array(list(judged[query]))[np.argsort(-ranker.score(features[query]))].tolist()
        for query in tested
    }
    summary = {
        "queries": len(trained),
        "tested": len(tested),
        "missing": num_missing,
        "trees": ranker.num_trees,
        "ndcg@10": mean_ndcg(learned),
        "ndcg@10_without": mean_ndcg(fused),
    }
    if num_missing:
        print(f"{num_missing} judgements are of videos that the index lacks", file=sys.stderr)
    command_line.print_json(summary)


def _by_query(
    judgements: Iterable[Judgement], ids_by_name: dict[str, list[str]]
) -> tuple[dict[str, dict[str, int]], int]:
    """Each query's videos with their grades, the best where one has several; and how many
    judgements are of videos that are not there.

    Raises:
        ValueError: a video is called by a key that several roots have.
    """
    judged: dict[str, dict[str, int]] = {}
    num_missing = 0
    for judgement in judgements:
        same = ids_by_name.get(judgement.video, [])
        if len(same) > 1:
            raise ValueError(
                f"{judgement.video} is in several roots; judge it by the id of its hit"
            )
        if not same:
            num_missing += 1
            continue
        video_id = same[0]
        grades = judged.setdefault(judgement.query, {})
        grades[video_id] = max(judgement.relevance, grades.get(video_id, 0))
    return judged, num_missing


if __name__ == "__main__":
    command_line.run(main, RankerConfig, usage=USAGE)
