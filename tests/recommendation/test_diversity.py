"""Choosing unlike items: against MMR by its definition, and the rules of copies and authors."""

import numpy as np
import pytest

from reelseek.recommendation.diversity import DiversityRule, diversified
from tests.indexing.small_index import unit


def chosen(scores, embeddings, *, contents=None, authors=None, rule, k=10, baseline=0.0):
    n = len(scores)
    choosing = diversified(
        np.array(scores, float),
        embeddings,
        contents=np.arange(n) if contents is None else np.array(contents),
        authors=np.full(n, -1) if authors is None else np.array(authors),
        rule=rule,
        baseline=baseline,
    )
    found = []
    while len(found) < k and (item := choosing.best()) is not None:
        choosing.take(item)
        found.append(item)
    return found, choosing


def test_mmr_by_its_definition():
    rng = np.random.default_rng(0)
    embeddings, scores = unit(rng.normal(size=(30, 6))), rng.random(30)
    rule = DiversityRule(relevance_share=0.6, duplicate_cosine=1.1)
    found, _ = chosen(scores, embeddings, rule=rule)
    expected: list[int] = []
    while len(expected) < 10:
        gains = {
            item: 0.6 * scores[item]
            - 0.4 * max([0.0, *(float(embeddings[item] @ embeddings[o]) for o in expected)])
            for item in range(30)
            if item not in expected
        }
        expected.append(max(gains, key=lambda item: gains[item]))
    assert found == expected


def test_without_diversity_the_order_is_that_of_scores():
    embeddings = unit(np.random.default_rng(1).normal(size=(5, 4)))
    rule = DiversityRule(relevance_share=1.0, duplicate_cosine=1.1)
    assert chosen([1, 5, 3, 2, 4], embeddings, rule=rule)[0] == [1, 4, 2, 3, 0]


def test_copies_and_near_duplicates_are_folded():
    embeddings = unit(np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1.0]]))
    found, choosing = chosen([4, 3, 2, 1], embeddings, contents=[0, 1, 2, 2], rule=DiversityRule())
    assert found == [0, 2]
    assert choosing.folded == {0: [1], 2: [3]}


@pytest.mark.parametrize("num_others", [0, 6])
def test_an_author_has_two_of_ten_places_while_there_are_others(num_others):
    n = 6 + num_others
    embeddings = unit(np.random.default_rng(2).normal(size=(n, 16)))
    authors = [7] * 6 + [-1] * num_others
    rule = DiversityRule(relevance_share=1.0, duplicate_cosine=1.1)
    found, _ = chosen(np.arange(n, 0, -1), embeddings, authors=authors, rule=rule, k=n)
    assert sorted(found) == list(range(n))
    if num_others:
        assert sum(authors[item] == 7 for item in found[:8]) == 2


def test_nothing_to_choose_from():
    found, _ = chosen([], np.zeros((0, 4), np.float32), rule=DiversityRule())
    assert found == []
