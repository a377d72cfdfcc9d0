"""Requests are made again as often as they may be, later each time, and only if that may help."""

import threading

import pytest

from reelseek.indexing.remote.budget import DiskBudget
from reelseek.indexing.remote.retrying import ObjectMissingError, RemoteError, Retry


class StatusError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}, https://host/a?sig=secret")
        self.status = status


def failing(*errors):
    left = list(errors)

    def request():
        if left:
            raise left.pop(0)
        return "done"

    return request, left


def test_waits_double_at_random_up_to_a_limit(monkeypatch):
    waits = []
    monkeypatch.setattr("random.uniform", lambda low, high: (low, high))
    request, _ = failing(*[TimeoutError()] * 9)
    assert Retry(10, sleep=waits.append).call(request) == "done"
    assert waits == [(0, seconds) for seconds in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0)]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_status_that_may_pass_is_tried_again(status):
    request, left = failing(*[StatusError(status)] * 2)
    assert Retry(3, sleep=lambda seconds: None).call(request) == "done"
    request, left = failing(*[StatusError(status)] * 5)
    with pytest.raises(RemoteError, match=rf"status {status} \(3 attempts\)$"):
        Retry(3, sleep=lambda seconds: None).call(request)
    assert len(left) == 2


@pytest.mark.parametrize(
    "error", [StatusError(400), PermissionError("x"), FileNotFoundError(), OSError(28, "full")]
)
def test_what_cannot_pass_is_not_tried_again(error):
    request, left = failing(error, TimeoutError())
    with pytest.raises(RemoteError) as caught:
        Retry(3, sleep=lambda seconds: pytest.fail("waited")).call(request)
    assert len(left) == 1
    assert isinstance(caught.value, ObjectMissingError) == isinstance(error, FileNotFoundError)
    assert "secret" not in str(caught.value)


def test_budget_lets_wait_until_others_give_back():
    budget = DiskBudget(10)
    assert budget.take(8)
    taken = threading.Event()
    thread = threading.Thread(target=lambda: budget.take(3) and taken.set())
    thread.start()
    assert not taken.wait(0.05)
    budget.give_back(8)
    assert taken.wait(5)
    thread.join()
    assert budget.used_bytes == 3
    with pytest.raises(ValueError, match="more than the whole budget"):
        budget.take(11)
    waiting = threading.Thread(target=lambda: budget.take(10))
    waiting.start()
    budget.close()
    waiting.join(5)
    assert not waiting.is_alive()
    assert budget.take(1) is False
