import numpy as np
import pytest

from reelseek.recommendation import evaluate
from reelseek.recommendation.registry import BASELINE_NAMES, FACTORIES
from tests.command_lines import run_in_this_process


def run(*arguments):
    return run_in_this_process(evaluate, "evaluate_recommenders", *arguments)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def loops(tmp_path):
    """Users who go through the letters from different starts, so that what follows is known."""
    letters = "abcdefghijkl"
    return write(
        tmp_path / "loops.txt",
        *(
            f"u{start} " + " ".join((letters * 2)[start : start + 5])
            for start in range(len(letters))
        ),
    )


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    users = {f"u{user}": rng.permutation(30)[:12].tolist() for user in range(25)}
    parts = {"train": (0, 6), "valid": (6, 8), "test": (8, 12)}
    for name, (start, end) in parts.items():
        lines = [f"{u} {' '.join(map(str, ids[start:end]))}" for u, ids in users.items()]
        write(tmp_path / f"{name}.txt", *lines)
    return [f"{name}={tmp_path / name}.txt" for name in parts]


def test_last_items_of_sequences(loops):
    done = run(f"sequences={loops}", "method=item_knn_recency")
    found = done.metrics
    assert (found["num_users"], found["num_items"]) == (12, 12)
    assert list(found["baselines"]) == list(BASELINE_NAMES)
    assert found["baselines"]["item_knn_recency"]["R@10"] == found["R@10"]
    for figures in (found, *found["baselines"].values()):
        assert 0 <= figures["NDCG@10"] <= figures["R@10"] <= figures["R@20"] <= 1
        low, high = figures["intervals"]["R@10"]
        assert low <= figures["R@10"] <= high
    # All are as popular: a tie counts against the system. 4 of 12 items are seen, 8 are left.
    assert found["baselines"]["popularity"]["NDCG@10"] == pytest.approx(1 / np.log2(9), abs=1e-5)
    assert "training: 100%" in done.stderr
    assert done.stdout.count("\n") == 1


def test_users_of_sequences_are_not_trained_on_beside_more(loops, tmp_path):
    asked = write(tmp_path / "asked.txt", "new x b c", "other b x", "third b never")
    found = run(f"sequences={asked}", f"more_sequences={loops}", "method=item_knn").metrics
    assert (found["num_users"], found["num_items"]) == (3, 14)
    # x and `never` are in nobody's training, c is: the last item of `new`.
    assert found["cold"]["num_targets"] == 2
    assert found["cold"]["R@10"] == 0
    assert found["R@10"] == pytest.approx(1 / 3, abs=1e-5)


def test_whoever_is_asked_about_is_not_trained_on(loops, tmp_path):
    # With the further events of u0 it would be plain that x follows b.
    more = write(tmp_path / "more.txt", "u0 b x b x", *loops.read_text().splitlines()[1:])
    asked = write(tmp_path / "asked.txt", "u0 a b x", "new c d e")
    done = run(f"sequences={asked}", f"more_sequences={more}", "method=item_knn_recency")
    assert done.metrics["cold"]["num_targets"] == 1
    assert "1 users of more_sequences are asked about: not trained on" in done.stderr
    done = run(f"sequences={asked}", f"more_sequences={asked}")
    assert done.returncode == 2
    assert "more_sequences holds only users of sequences" in done.stderr


def test_titles_bring_items_that_nobody_chose(loops, tmp_path):
    titles = write(tmp_path / "titles.csv", "item,title", 'a,"one, two"', "unseen,three")
    found = run(f"sequences={loops}", f"titles={titles}", "baselines=false").metrics
    assert found["num_items"] == 13
    assert "baselines" not in found


def test_sets(pairs):
    found = run(*pairs, "method=popularity").metrics
    assert (found["num_users"], found["num_items"]) == (25, 30)
    refit = run(*pairs, "refit=true", "method=popularity").metrics
    # With refit, what is in `valid` is masked too: less is left to be ahead of the right items.
    assert refit["R@20"] > found["R@20"]
    assert run(*pairs, "method=popularity", "seed=1").metrics["R@20"] == found["R@20"]


def test_what_valid_chooses_is_said(pairs):
    done = run(*pairs, "baselines=false")
    found = done.metrics
    assert found["method"] == "graph_filter"
    assert {"exponents", "weight", "num_factors"} <= found["settings"].keys()
    # What is chosen depends on `valid` and not on `test`, nor on what is then learned from.
    assert run(*pairs, "baselines=false", "refit=true").metrics["settings"] == found["settings"]


def test_users_without_test_items_are_left_out(pairs, tmp_path):
    write(tmp_path / "test.txt", "u0", "u1 3", "stranger 4")
    assert run(*pairs, "method=popularity", "baselines=false").metrics["num_users"] == 2


@pytest.mark.parametrize("method", [name for name in FACTORIES if name != "graph_filter"])
def test_one_user_is_enough(tmp_path, method):
    path = write(tmp_path / "one.txt", "only a b")
    found = run(f"sequences={path}", f"method={method}", "baselines=false").metrics
    assert (found["num_users"], found["num_items"], found["R@10"]) == (1, 2, 1.0)


def test_one_item_leaves_nothing_to_learn_from(tmp_path):
    path = write(tmp_path / "one.txt", "a x", "b x")
    done = run(f"sequences={path}")
    assert done.returncode == 2
    assert "without last items nothing is left to learn from" in done.stderr
    more = write(tmp_path / "more.txt", "c x")
    assert run(f"sequences={path}", f"more_sequences={more}").metrics["num_items"] == 1


def test_a_robot_is_bounded(tmp_path, loops):
    robot = "robot " + " ".join("abcdefghijkl"[draw % 12] for draw in range(0, 250_000, 5))
    path = write(tmp_path / "attacked.txt", *loops.read_text().splitlines(), robot)
    attacked = run(f"sequences={path}", "max_items_per_user=5", "baselines=false").metrics
    assert attacked["num_users"] == 13
    assert attacked["R@10"] >= 12 / 13 - 0.01


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "train is missing: give sequences=FILE, or train, valid and test"),
        (["train=LOOPS", "test=LOOPS"], "valid is missing: give sequences=FILE, or"),
        (["sequences=LOOPS", "train=LOOPS"], "train=LOOPS: stands beside sequences=LOOPS; give"),
        (["sequences=LOOPS", "refit=true"], "refit=true: is for train, valid and test"),
        (["more_sequences=LOOPS"], "more_sequences=LOOPS: needs sequences"),
        (["sequences=none.txt"], "sequences=none.txt: no such file"),
        (["sequences=LOOPS", "titles=none.csv"], "titles=none.csv: no such file"),
        (["sequences=LOOPS", "method=magic"], "method=magic: must be one of popularity, item_knn"),
        (["sequences=LOOPS", "seed=-1"], "seed=-1: must be 0 or more"),
        (["sequences=LOOPS", "max_seconds=0"], "max_seconds=0.0: must be more than 0"),
        (["sequences=LOOPS", "max_items_per_user=0"], "max_items_per_user=0: must be at least 1"),
        (["sequenses=LOOPS"], "unknown option sequenses; near names: sequences"),
    ],
)
def test_mistakes_are_one_line(loops, arguments, line):
    done = run(*(argument.replace("LOOPS", str(loops)) for argument in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: " + line.replace("LOOPS", str(loops)))
    assert done.stderr.count("\n") == 1
