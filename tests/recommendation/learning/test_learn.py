import json

import pytest

from reelseek.configs import command_line
from reelseek.configs.learning_schema import LearnConfig
from reelseek.recommendation import learn
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Click, Impression
from reelseek.recommendation.learning.store import ModelStore


@pytest.fixture
def events(tmp_path):
    now = iter(range(10**6, 10**7, 10))
    log = EventLog(tmp_path / "events", clock=lambda: float(next(now)))
    for n in range(60):
        common = {"time_seconds": 2e9, "user": f"u{n % 7}", "video": f"v{n % 5}"}
        log.append([Impression(event_id=f"i{n}", position=1, request_id=str(n), **common)])
        if n % 3 == 0:
            log.append([Click(event_id=f"c{n}", request_id=str(n), **common)])
    log.close()
    return tmp_path / "events"


def run(capsys, *arguments):
    command_line.run(learn.main, LearnConfig, usage=learn.USAGE, arguments=arguments)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_each_event_is_learned_once(events, tmp_path, capsys):
    arguments = (f"events={events}", f"output={tmp_path / 'm'}", "follow=false", "wait_seconds=30")
    first = run(capsys, *arguments)
    assert (first["position"], first["lag_events"], first["events"]) == (80, 0, 80)
    assert first["examples"] > 50
    assert first["last_hour"]["num_examples"] > 50
    again = run(capsys, *arguments)
    assert (again["position"], again["events"]) == (80, 0)
    assert again["examples"] == first["examples"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["events=none", "output={folder}/m"], "events=none: no such folder"),
        (["events={events}", "output={events}/events.db/m"], "is not a folder"),
        (["events={events}", "output={folder}/held"], "another process learns into it"),
        (["events={events}", "output={folder}/m", "correct_seconds=0.5"], "at least wait_seconds"),
    ],
)
def test_a_mistake_is_one_line(events, tmp_path, capsys, arguments, message):
    database = next(path.name for path in events.iterdir() if path.is_file())
    given = [
        each.format(events=events, folder=tmp_path).replace("events.db", database)
        for each in arguments
    ]
    with ModelStore(tmp_path / "held"), pytest.raises(SystemExit) as stopped:
        run(capsys, *given, "follow=false")
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
