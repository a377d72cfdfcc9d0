import json

import pytest

from reelseek.indexing.progress import JsonProgress, progress_bar


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


def test_json_lines_come_seldom_and_the_last_one_is_whole(capsys):
    seconds = [0.0]
    with JsonProgress(100, total_bytes=100, clock=lambda: seconds[0]) as progress:
        for i in range(100):
            seconds[0] += 0.1
            progress.count(f"{i}.mp4", failed=i // 50, size_bytes=1, was_encoded=True)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {"done": 0, "total": 100, "failed": 0, "video": "", "seconds_left": None}
    assert lines[-1] == {
        **{"done": 100, "total": 100, "failed": 1, "video": "99.mp4", "seconds_left": 0.0}
    }
    assert 10.0 / 0.6 - 1 <= len(lines) <= 10.0 / 0.5 + 2


def test_seconds_left_follow_from_the_bytes_that_took_time(capsys):
    seconds = [0.0]
    with JsonProgress(4, total_bytes=1111, clock=lambda: seconds[0]) as progress:
        seconds[0] = 1.0  # a copy of another video takes no time, and says nothing
        progress.count("copy.mp4", failed=0, size_bytes=1000, was_encoded=False)
        seconds[0] = 11.0
        progress.count("short.mp4", failed=0, size_bytes=1, was_encoded=True)
        seconds[0] = 22.0
        progress.count("longer.mp4", failed=0, size_bytes=10, was_encoded=True)
    left = [json.loads(line)["seconds_left"] for line in capsys.readouterr().err.splitlines()]
    assert left[:4] == [None, None, 110 * 11.0 / 1, 100 * 22.0 / 11]
