import os
import signal
import threading

import pytest

from indexing import stop_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers():
    """Handlers of the test's own, which must be in their places when it ends."""
    own = {number: lambda *_: pytest.fail("the signal was not taken") for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield own
    after = {number: signal.signal(number, handler) for number, handler in before.items()}
    assert after == own


def test_nothing_is_asked_for_without_a_signal():
    with stop_on_signals() as stop:
        assert not stop
        assert stop.signal_number == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_a_request_that_says_what_it_does(number, capsys):
    with stop_on_signals() as stop:
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_number == number
    assert "again to stop at once" in capsys.readouterr().err
    assert stop  # still known afterwards


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_second_signal_stops_at_once(first, second):
    with stop_on_signals() as stop:
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
        assert stop.signal_number == first


def test_handlers_are_restored_after_an_exception(handlers):
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != handlers[signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_other_thread_leaves_signals_alone(handlers):
    found = []

    def work():
        with stop_on_signals() as stop:
            found.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, handlers[signal.SIGINT])]
