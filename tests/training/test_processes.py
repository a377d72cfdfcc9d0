import pytest
import torch

from reelseek.training.processes import Processes, join_processes
from tests.training import tiny_run


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
