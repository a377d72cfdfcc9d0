"""`python -m recommendation.sequential`: a model in a folder, by one process or two."""

import json
from pathlib import Path

import numpy as np
import pytest

from reelseek.recommendation.sequential import __main__ as command
from reelseek.recommendation.sequential.model import SequentialModel
from tests.command_lines import run_in_this_process, run_program
from tests.recommendation.sequential.samples import rings

SMALL = (
    *("network.dim=16", "network.max_length=8", "network.dropout=0", "network.item_dropout=0"),
    *("loop.epochs=2", "loop.batch_events=128", "loop.num_negatives=32", "ensemble=2"),
    "loop.validation_users=10",
)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of users who go around a ring."""
    read = rings(100)
    names = read.items.ids()
    path = tmp_path_factory.mktemp("sequences") / "rings.txt"
    path.write_text(
        "".join(
            f"{user} {' '.join(names[item] for item in history)}\n"
            for user, history in zip(read.users, read.histories(), strict=True)
        )
    )
    return path


def test_it_writes_a_model_that_loads_and_the_same_command_changes_nothing(
    sequences: Path, tmp_path: Path
) -> None:
    arguments = (f"sequences={sequences}", f"output={tmp_path / 'new' / 'model'}", *SMALL)
    done = run_in_this_process(command, "sequential", *arguments)
    assert done.metrics["num_users"] == 100 and done.metrics["num_networks"] == 2
    loaded = SequentialModel.load(tmp_path / "new" / "model")
    assert loaded.fingerprint == done.metrics["fingerprint"]
    assert loaded.transitions_weight == done.metrics["transitions_weight"]
    first, second = loaded.networks
    assert not np.array_equal(first.items, second.items)

    again = run_in_this_process(command, "sequential", *arguments)
    assert again.metrics == done.metrics
    assert np.array_equal(
        SequentialModel.load(tmp_path / "new" / "model").item_vectors(), loaded.item_vectors()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sequences=nowhere.txt", "output=OUT"], "sequences=nowhere.txt: no such file"),
        (["output=OUT"], "sequences is missing"),
        (["sequences=FILE"], "output is missing"),
        (["sequences=FILE", "output=FILE"], "is not a folder"),
        (["sequences=FILE", "output=OUT", "titles=none.csv"], "titles=none.csv: no such file"),
        (["sequences=FILE", "output=OUT", "network.num_heads=3"], "network.num_heads=3: must be"),
        (["sequences=FILE", "output=OUT", "loop.lr=0"], "loop.lr=0.0: must be more than 0"),
    ],
)
def test_a_mistake_is_one_line(
    sequences: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = [
        each.replace("FILE", str(sequences)).replace("OUT", str(tmp_path / "out"))
        for each in arguments
    ]
    done = run_in_this_process(command, "sequential", *given)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_two_processes_train_as_one(sequences: Path, tmp_path: Path) -> None:
    """Without dropout, whose chances are each process's own."""
    arguments = (f"sequences={sequences}", *SMALL, "device=cpu")
    run_in_this_process(command, "sequential", *arguments, f"output={tmp_path / 'one'}")
    done = run_program(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2),
        *("-m", "reelseek.recommendation.sequential", *arguments, f"output={tmp_path / 'two'}"),
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["num_networks"] == 2
    one, two = (SequentialModel.load(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(one.item_vectors(), two.item_vectors(), atol=1e-3)
