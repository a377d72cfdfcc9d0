import pytest

from reelseek.indexing.progress import progress_bar


@pytest.fixture
def clock(monkeypatch):
    """The seconds that tqdm sees."""
    seconds = [0.0]
    monkeypatch.setattr("tqdm.std.time", lambda: seconds[0])
    return seconds


def test_log_of_a_day_stays_short(clock, capsys):
    with progress_bar(total=86_400, desc="reading", unit="caption") as progress:
        for _ in range(86_400):
            clock[0] += 1
            progress.update()
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert 86_400 / 600 <= len(lines) < 86_400 / 600 + 12
    assert "\r" not in shown
    assert all(line.startswith("reading: ") for line in lines)
    assert "86400/86400" in lines[-1]


def test_log_shows_soon_that_work_goes_on(clock, capsys):
    with progress_bar(total=100, desc="reading") as progress:
        for _ in range(35):
            clock[0] += 1
            progress.update()
        shown = [line.split("|")[2].split()[0] for line in capsys.readouterr().err.splitlines()]
        assert shown == ["0/100", "10/100", "30/100"]


def test_disabled_bar_is_silent(capsys):
    with progress_bar(total=2, desc="reading", disable=True) as progress:
        progress.update()
    assert capsys.readouterr().err == ""
