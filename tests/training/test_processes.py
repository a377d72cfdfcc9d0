"""One process, and two of `torchrun`: what each knows, and that two train as one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from reelseek.training.processes import Processes, join_processes
from tests.command_lines import run_program
from tests.training import tiny_run
from tests.training.tiny_run import NUM_STEPS, losses_of, make_trainer, run

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class TwoProcesses:
    """What `tests.training.tiny_run` did as two processes of `torchrun`.

    Attributes:
        reports: of each process.
        weights: of each process, at the end of each configuration.
        folder: with what they wrote.
    """

    reports: list[dict[str, Any]]
    weights: list[dict[str, dict[str, torch.Tensor]]]
    folder: Path


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> TwoProcesses:
    folder = tmp_path_factory.mktemp("torchrun")
    done = run_program(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2),
        *("-m", "tests.training.tiny_run", folder),
    )
    assert done.returncode == 0, done.stderr
    return TwoProcesses(
        [json.loads((folder / f"report-{rank}.json").read_text()) for rank in range(2)],
        [torch.load(folder / f"weights-{rank}.pt") for rank in range(2)],
        folder,
    )


def test_process_without_torchrun_is_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with join_processes("cpu") as processes:
        assert processes == Processes(0, 1, torch.device("cpu"))
        assert processes.is_main_process
        assert not torch.distributed.is_initialized()


def test_process_alone_makes_things_itself():
    made = object()
    assert tiny_run.ALONE.broadcast_from_rank0(lambda: made) is made
    assert [tiny_run.ALONE.any(flag) for flag in (True, False)] == [True, False]


def test_error_of_a_process_alone_is_raised():
    def fail():
        raise ValueError("no such list")

    with pytest.raises(ValueError, match="no such list"):
        tiny_run.ALONE.broadcast_from_rank0(fail)


def test_processes_of_torchrun_know_their_numbers(two_processes):
    assert [r["joined"] for r in two_processes.reports] == [[0, 2, "cpu"], [1, 2, "cpu"]]


def test_what_the_first_process_makes_is_everyones(two_processes):
    assert [r["value of the first"] for r in two_processes.reports] == ["made by 0"] * 2


def test_error_of_the_first_process_is_everyones(two_processes):
    expected = ["FileNotFoundError", "[Errno 2] no such list: 'list-0.csv'"]
    assert [r["error of the first"] for r in two_processes.reports] == [expected] * 2


def test_what_is_true_in_one_process_is_true_in_any(two_processes):
    assert [r["any"] for r in two_processes.reports] == [[True, False, True]] * 2


# Training.


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Losses and weights of every configuration in this process alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tiny_run.train_all(tmp_path_factory.mktemp("alone"), tiny_run.ALONE)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", tiny_run.CONFIGURATIONS)
def test_two_processes_are_one_with_the_same_batch(two_processes, one_process, name):
    losses, weights = one_process
    for rank in range(2):
        found = two_processes.reports[rank]["losses"][name]
        assert len(found) == NUM_STEPS
        assert found == pytest.approx(losses[name], abs=1e-5, rel=0)
        assert two_processes.weights[rank][name].keys() == weights[name].keys()
        for part, tensor in two_processes.weights[rank][name].items():
            torch.testing.assert_close(tensor, weights[name][part], atol=1e-5, rtol=0, msg=part)


def test_stop_that_one_process_hears_of_stops_both_and_both_go_on(two_processes):
    first, second = two_processes.reports
    assert first["stopped at"] == second["stopped at"] == 3
    name = "losses of a resumed run"
    assert len(first[name]) == NUM_STEPS
    assert first[name] == second[name]


def test_run_resumed_by_two_processes_is_that_of_one(two_processes, tmp_path):
    alone = make_trainer(tmp_path)
    run(alone)
    found = two_processes.reports[0]["losses of a resumed run"]
    assert found == pytest.approx(losses_of(alone), abs=1e-5, rel=0)


def test_broken_video_of_one_process_stops_both(two_processes):
    steps, messages = zip(*(report["non-finite"] for report in two_processes.reports), strict=True)
    assert steps[0] == steps[1]
    assert all("the loss is nan" in message for message in messages)
    assert any("video-3.mp4" in message for message in messages)


def test_first_process_names_the_broken_video_of_another(two_processes):
    assert all("video-3.mp4" in report["non-finite"][1] for report in two_processes.reports)


# Training on shards.


def test_two_processes_train_on_shards_as_one_does(two_processes, tmp_path):
    alone = tiny_run.train_on_shards(tmp_path / "shards", tiny_run.ALONE)
    first, second = (report["streamed"] for report in two_processes.reports)
    skipped = [record["data/num_skipped"] for record in alone.state.history]
    assert len(skipped) == 2 * (9 * 8 // tiny_run.BATCH_SIZE)
    assert sum(skipped) >= 2
    for history in (first, second):
        assert [record["data/num_skipped"] for record in history] == skipped
        torch.testing.assert_close(
            [record["train/loss"] for record in history],
            [record["train/loss"] for record in alone.state.history],
            atol=1e-5,
            rtol=1e-5,
        )
    weights = [each["streamed"] for each in two_processes.weights]
    for name, expected in alone.finished_weights().items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], expected, atol=1e-5, rtol=1e-4)


def test_both_processes_name_what_was_skipped_once(two_processes):
    """The first process writes what both of them met."""
    report = two_processes.folder / "shards" / "skipped.tsv"
    names = [line.split("\t")[0] for line in report.read_text().splitlines()]
    assert [name.rpartition("/")[2] for name in sorted(names)] == [
        "0001.tar, '0002.png'",
        "0004.tar",
        "0006.tar, '0007.png'",
    ]
