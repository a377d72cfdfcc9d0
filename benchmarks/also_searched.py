"""The next query of a session, found from other sessions, from meaning, and from both.

    python benchmarks/also_searched.py sessions=sessiontrack2012.xml.gz [model=mini]

Each session of the TREC Session Track is left out in turn: its queries are asked, and the query
that came next is looked for among all queries of the other sessions and, as those who ask are not
to be told apart, among its own other queries by meaning alone. MRR@10 and R@10 are over all
queries that have a next one which differs from them; those that no other session has can be found
by nobody without meaning, and are counted as missed. Intervals are bootstraps over sessions.
"""

import gzip
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from reelseek.ranking.prefix_index import folded  # noqa: E402
from reelseek.recommendation.completion.also_searched import (  # noqa: E402
    NextQueries,
    followings,
)

K = 10
NUM_BOOTSTRAPS = 2_000


def read_sessions(path: Path) -> list[list[str]]:
    """The folded queries of each session, in order; repeats one after the other count once."""
    with gzip.open(path) as file:
        root = ET.fromstring(file.read())
    sessions = []
    for session in root.iter("session"):
        asked: list[str] = []
        for element in session.iter("query"):
            query = folded("".join(element.itertext()))
            if query and (not asked or asked[-1] != query):
                asked.append(query)
        sessions.append(asked)
    return sessions


def reciprocal_rank(scores: np.ndarray, answer: int) -> float:
    """Ties count against the answer; a score of 0 is no suggestion."""
    if scores[answer] <= 0:
        return 0.0
    rank = int((scores >= scores[answer]).sum())
    return 1 / rank if rank <= K else 0.0


def measure(
    sessions: Sequence[Sequence[int]], embeddings: np.ndarray, *, method: str
) -> list[list[float]]:
    """The reciprocal ranks of each session."""
    num_queries = len(embeddings)
    found: list[list[float]] = []
    for left_out, session in enumerate(sessions):
        others = [each for number, each in enumerate(sessions) if number != left_out]
        known = {query for each in others for query in each}
        evidence = [each for other in others for each in followings(other)]
        uses_meaning = method != "co-occurrence"
        if method == "meaning":
            evidence = []
        model = NextQueries(num_queries, evidence, embeddings if uses_meaning else None)
        is_known = np.zeros(num_queries, dtype=bool)
        is_known[list(known)] = True
        ranks = []
        for query, following in pairwise(session):
            embedding = embeddings[query] if uses_meaning else None
            scores = np.where(is_known, model.scores(query, embedding), 0.0)
            scores[query] = 0.0
            ranks.append(reciprocal_rank(scores, following))
        found.append(ranks)
    return found


def summary(ranks: Sequence[Sequence[float]]) -> str:
    draws = np.random.default_rng(0)
    sums = np.array([sum(each) for each in ranks])
    nums = np.array([len(each) for each in ranks])
    found = np.array([sum(rank > 0 for rank in each) for each in ranks])
    drawn = draws.integers(0, len(ranks), (NUM_BOOTSTRAPS, len(ranks)))
    mrr = sums[drawn].sum(1) / nums[drawn].sum(1)
    low, high = np.percentile(mrr, (2.5, 97.5))
    return f"{sums.sum() / nums.sum():.4f} [{low:.4f}, {high:.4f}]  {found.sum() / nums.sum():.4f}"


def main() -> None:
    options = parse_options(__doc__, sessions=None, model="mini")
    sessions = read_sessions(Path(options["sessions"]))
    queries = sorted({query for session in sessions for query in session})
    numbers = {query: number for number, query in enumerate(queries)}
    numbered = [[numbers[query] for query in session] for session in sessions]
    embeddings = encode(queries, options["model"])
    num_asked = sum(max(0, len(session) - 1) for session in sessions)
    elsewhere = sum(
        any(following in other for n, other in enumerate(numbered) if n != own)
        for own, session in enumerate(numbered)
        for following in session[1:]
    )
    print(f"{len(sessions)} sessions, {num_asked} next queries, {elsewhere} asked in others, too")
    print(f"{'method':<15} MRR@10                   R@10")
    for method in ("co-occurrence", "meaning", "both"):
        print(f"{method:<15} {summary(measure(numbered, embeddings, method=method))}")


def encode(queries: Sequence[str], name: str) -> np.ndarray:
    from reelseek.ranking.query_encoding import QueryEncoder
    from reelseek.vision.models.loading import load_model
    from reelseek.vision.models.spec import ModelSpec

    encoder = QueryEncoder(load_model(ModelSpec(name)))
    return encoder.sentences(list(queries))


if __name__ == "__main__":
    main()
