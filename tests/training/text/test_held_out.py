import math

import numpy as np
import pytest
import torch

from reelseek.training.text.files import read_entries
from reelseek.training.text.held_out import Retrieval, best_rank, make_retrievals, split_in_two


def test_rank_is_that_of_the_best_answer_and_ties_count_against_it():
    scores = np.array([0.5, 0.9, 0.5, 0.1])
    assert best_rank(scores, [0]) == 3
    assert best_rank(scores, [1]) == 1
    assert best_rank(scores, [0, 2]) == 2  # one answer does not push down another
    assert best_rank(np.ones(4), [3]) == 4


def test_retrieval_by_hand():
    vectors = {"q": [1, 0], "r": [0, 1], "x": [1, 0], "y": [0.8, 0.6], "z": [0, 1]}

    def embed(texts):
        return torch.tensor([vectors[text] for text in texts], dtype=torch.float32)

    retrieval = Retrieval.of([("q", "y"), ("r", "z"), ("Q", "z"), ("q", "x"), ("r", "x")])
    assert retrieval.queries == ["q", "r"]
    assert retrieval.gallery == ["y", "z", "x"]
    assert retrieval.answers == [[0, 1, 2], [1, 2]]
    assert retrieval.measure(embed)["R@1"] == 100.0
    other = Retrieval.of([("q", "y"), ("r", "x"), ("r", "y"), ("q", "z")])
    # q: y .8, x 1, z 0 -> 2; r: x 0, y .6, z 1 -> 2
    measured = other.measure(embed)
    assert (measured["R@1"], measured["R@10"], measured["MRR"]) == (0.0, 100.0, 50.0)
    assert (measured["num_queries"], measured["num_gallery"]) == (2, 3)


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("how to tie a tie", ("how to", "tie a tie")),
        ("three words only", None),
        ("恐龙动画片儿", ("恐龙动", "画片儿")),
        ("恐龙", None),
    ],
)
def test_text_is_split_in_two(text, halves):
    assert split_in_two(text) == halves


def test_what_held_out_texts_ask(tmp_path):
    (tmp_path / "a.txt").write_text("one two three four #tag #Other\n#tag\nshort #tag\n")
    (tmp_path / "b.tsv").write_text("q\ttitle\n")
    texts = read_entries("data.val", [str(tmp_path / "a.txt")], are_pairs=False)
    pairs = read_entries("val_pairs", [str(tmp_path / "b.tsv")], are_pairs=True)
    asked = make_retrievals(texts, pairs)
    assert asked.keys() == {"halves", "hashtags", "pairs"}
    assert asked["halves"] == Retrieval(["one two"], ["three four"], [[0]])
    assert asked["hashtags"] == Retrieval(
        ["one two three four", "short"], ["tag", "Other"], [[0, 1], [0]]
    )
    none = read_entries("data.val", [], are_pairs=False)
    assert make_retrievals(none, none) == {}
    assert math.isclose(len(none), 0)
