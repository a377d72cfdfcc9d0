"""What is recommended: what comes next, items without history, and odd histories."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reelseek.recommendation.data.sequences import Sequences, Vocabulary
from reelseek.recommendation.recommender import FitSettings
from reelseek.recommendation.sequential import content
from reelseek.recommendation.sequential.blend import blend, choose_weight, mean_gain
from reelseek.recommendation.sequential.content import embed_titles
from reelseek.recommendation.sequential.recommender import SequentialRecommender
from reelseek.recommendation.sequential.validation import hold_out_last
from tests.command_lines import run_program
from tests.recommendation.sequential.samples import loop_config, network_config, rings


def fitted(sequences: Sequences, **values: object) -> SequentialRecommender:
    settings = FitSettings(**values)  # type: ignore[arg-type]
    made = SequentialRecommender(
        settings,
        network=network_config(id_dropout=0.5 if settings.titles else 0.0),
        loop=loop_config(epochs=10),
        ensemble=1,
    )
    made.fit(sequences)
    return made


def test_what_comes_next_is_first_and_the_same_seed_gives_the_same_scores() -> None:
    sequences = rings()
    histories = [np.array([3, 4, 5]), np.array([18, 19])]
    ours, again, other = (fitted(sequences, seed=seed).scores(histories) for seed in (0, 0, 1))
    names = sequences.items.ids()
    following = {
        index: sequences.items[f"item{(int(name[4:]) + 1) % 20}"]
        for index, name in enumerate(names)
    }
    assert [row.argmax() for row in ours] == [following[history[-1]] for history in histories]
    assert ours.dtype == np.float32 and np.isfinite(ours).all()
    assert np.array_equal(ours, again)
    assert not np.array_equal(ours, other)


def test_an_item_that_nobody_chose_is_found_by_its_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two kinds of items, told apart by their titles alone; users stay with one kind."""
    random = np.random.default_rng(0)
    items = Vocabulary(f"{kind}{number}" for kind in "ab" for number in range(15))
    sequences = Sequences.of(
        (
            (
                f"user{user}",
                [f"{'ab'[user % 2]}{number}" for number in random.permutation(14)[:6]],
            )
            for user in range(200)
        ),
        items,
    )

    def embed(titles: Sequence[str]) -> np.ndarray:
        kinds = {"apples": [1.0, 0.1], "bears": [0.1, 1.0]}
        return np.array([kinds[title] for title in titles], np.float32)

    monkeypatch.setattr(content, "load_text_tower", lambda name: (embed, "tower"))
    titles = tuple({"a": "apples", "b": "bears"}[each[0]] for each in items)
    made = fitted(sequences, titles=titles)
    scores = made.scores([np.array([items["a0"], items["a1"]]), np.array([items["b0"]])])
    cold = [items["a14"], items["b14"]]
    assert scores[0, cold[0]] > scores[0, cold[1]] + 1
    assert scores[1, cold[1]] > scores[1, cold[0]] + 1
    assert made.model.content_fingerprint == "tower"


def test_odd_histories_have_an_order_too() -> None:
    sequences = rings()
    sequences.items.add("nobody knows it")
    made = fitted(sequences)
    unknown = sequences.items["nobody knows it"]
    empty, with_unknown = made.scores([np.zeros(0, np.int32), np.array([unknown])])
    counts = sequences.item_counts
    assert empty.argmax() == counts.argmax() and empty.argmin() == unknown
    assert np.isfinite(with_unknown).all() and with_unknown.argmin() == unknown
    assert made.scores([]).shape == (0, 21)


def test_few_users_are_learned_from_whole() -> None:
    tiny = Sequences.of([("ann", ["a", "b", "c"]), ("bob", ["a", "b"])])
    assert np.isfinite(fitted(tiny).scores([np.array([0])])).all()
    assert not len(hold_out_last(tiny, 2000, seed=0).targets)


def test_held_out_items_are_not_learned_from() -> None:
    sequences = rings(100)
    held_out = hold_out_last(sequences, 7, seed=0)
    assert len(held_out.targets) == 7
    assert held_out.learned.num_events == sequences.num_events - 7
    whole = {tuple(each) for each in sequences.histories()}
    for history, target in zip(held_out.histories, held_out.targets, strict=True):
        assert (*history, target) in whole
    assert len(hold_out_last(sequences, 2000, seed=0).targets) == 10


def test_the_blend_by_hand() -> None:
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    transitions = np.array([[3.0, 1.0, 0.0]], np.float32)
    expected = [1 + 0.5 * np.log(1 + 7500), 2 + 0.5 * np.log(1 + 2500), 3.0]
    np.testing.assert_allclose(blend(logits, transitions, 0.5)[0], expected, rtol=1e-6)
    nothing = np.zeros((1, 3), np.float32)
    assert np.array_equal(blend(logits, nothing, 2.0), logits)


def test_the_gain_by_hand() -> None:
    scores = np.array([[5.0, 4.0, 4.0, 1.0], [5.0, 4.0, 4.0, 1.0]])
    # Of the first, item 0 is seen and item 2 ties: rank 2. Of the second, none stands before.
    gain = mean_gain(scores, histories=[np.array([0]), np.array([3])], targets=np.array([1, 0]))
    assert gain == pytest.approx((1 / np.log2(3) + 1) / 2)
    gain = mean_gain(scores[:1], histories=[np.array([0])], targets=np.array([1]), cut=1)
    assert gain == 0


def test_the_weight_is_that_which_finds_held_out_items() -> None:
    logits = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], np.float32)
    nothing = [np.zeros(0, int)] * 2
    right = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    weight, gains = choose_weight(logits, right, histories=nothing, targets=np.array([0, 0]))
    assert weight == 0.35 and gains[0.35] == 1  # the first for which 2 < weight * log(10001)
    weight, _ = choose_weight(logits, right, histories=nothing, targets=np.array([2, 2]))
    assert weight == 0.0


def test_titles_are_embedded_once_around_their_mean_and_blank_ones_are_zero() -> None:
    asked: list[str] = []

    def embed(titles: Sequence[str]) -> np.ndarray:
        asked.extend(titles)
        return np.array([[len(title), 1.0] for title in titles], np.float32)

    content = embed_titles(["aa", " ", "bbbb", "aa ", ""], embed)
    assert asked == ["aa", "bbbb"]
    np.testing.assert_allclose(content, [[-1, 0], [0, 0], [1, 0], [-1, 0], [0, 0]])
    assert not embed_titles(["", " "], embed).any()


def test_a_loaded_recommender_scores_as_the_fitted_one(tmp_path: Path) -> None:
    sequences = rings()
    made = fitted(sequences)
    made.model.save(tmp_path)
    histories = [np.array([1, 2, 3]), np.zeros(0, np.int32)]
    loaded = SequentialRecommender.load(tmp_path, sequences)
    assert np.array_equal(loaded.scores(histories), made.scores(histories))
    with pytest.raises(ValueError, match="another catalogue"):
        SequentialRecommender.load(tmp_path, rings(num_items=19))


def test_sets_are_refused() -> None:
    pairs = Sequences.of([("ann", ["a", "b"])], is_ordered=False)
    with pytest.raises(ValueError, match="learns from sequences"):
        fitted(pairs)


def test_loading_needs_no_pytorch() -> None:
    done = run_program(
        "-c",
        "import sys; import reelseek.recommendation.sequential.recommender; "
        "import reelseek.recommendation.nearest_items; sys.exit('torch' in sys.modules)",
    )
    assert done.returncode == 0, done.stderr
