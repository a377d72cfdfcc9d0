import csv
import json

import numpy as np
import pytest

from reelseek.configs import command_line
from reelseek.configs.learning_schema import ReplayConfig
from reelseek.recommendation import replay
from tests.recommendation.learning.synthetic import log

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402


def write_events(path, impressions, outcomes):
    days = impressions.upload_day
    columns = {
        "user_id": impressions.user,
        "video_id": impressions.video,
        "time_ms": impressions.time_ms,
        "tab": impressions.tab,
        "author_id": impressions.author,
        "tag": impressions.tag.tolist(),
        "duration_ms": impressions.duration_ms,
        "upload_dt": [None if np.isnan(d) else str(np.datetime64(int(d), "D")) for d in days],
        "long_view": outcomes.labels[:, 0].astype(int),
        "is_click": outcomes.labels[:, 1].astype(int),
        "is_like": outcomes.labels[:, 2].astype(int),
        "play_time_ms": (outcomes.watched * 1e5).astype(int),
    }
    parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def files(tmp_path):
    impressions, outcomes = log(500)
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    # The second file comes first in time, and repeats some events of the first.
    write_events(second, impressions.take(slice(0, 260)), outcomes.take(slice(0, 260)))
    write_events(first, impressions.take(slice(240, 500)), outcomes.take(slice(240, 500)))
    history = tmp_path / "h.parquet"
    rows = {
        "user_id": [1, 2],
        "last_time_ms": [0, 10**15],
        "watch_seq": [[3, 4], [5]],
        "long_watch_seq": [[3], [5]],
    }
    parquet.write_table(pyarrow.table(rows), history)
    for name, key in (("users", "user_id"), ("videos", "video_id")):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([key, "kind", "author_id", "tag"])
            writer.writerows([number, number % 3, number // 3, number % 5] for number in range(40))
    return tmp_path, int(impressions.time_ms[300])


def run(capsys, *arguments):
    command_line.run(replay.main, ReplayConfig, usage=replay.USAGE, arguments=arguments)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_last_line_has_the_figures_and_those_of_the_frozen_model(files, capsys):
    folder, from_ms = files
    predictions = folder / "p.npz"
    figures = run(
        capsys,
        f"events=[{folder}/a.parquet,{folder}/b.parquet]",
        *(
            f"{name}={folder}/{file}"
            for name, file in (
                ("history", "h.parquet"),
                ("users", "users.csv"),
                ("videos", "videos.csv"),
            )
        ),
        f"measure_from={from_ms}",
        f"predictions={predictions}",
    )
    assert figures["num_events"] == 200
    assert figures["events_dropped"] == 20
    assert 0.4 < figures["AUC"] < 1
    assert set(figures["frozen"]) >= {"AUC", "session_GAUC"}
    assert set(figures["intervals"]) >= {"AUC", "session_GAUC"}
    assert figures["events_per_second"] > 0
    assert set(figures["delays"]) == {"1 hour", "1 day"}
    with np.load(predictions) as saved:
        assert saved["online"].shape == (200, 3)


def test_files_may_lack_what_is_optional(files, capsys):
    folder, from_ms = files
    table = parquet.read_table(folder / "b.parquet")
    parquet.write_table(table.drop_columns(["author_id", "tag", "upload_dt"]), folder / "c.parquet")
    figures = run(
        capsys, f"events=[{folder}/c.parquet]", f"measure_from={from_ms - 10**7}", "delays=false"
    )
    assert "delays" not in figures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["events=[none.parquet]"], "none.parquet: no such file"),
        (["events=[]"], "events=[]: name at least one"),
        (["events=[{folder}/users.csv]"], "is no Parquet file"),
        (["events=[{folder}/h.parquet]"], "has no column video_id"),
        (["events=[{folder}/a.parquet]", "users={folder}/h.parquet"], "is not UTF-8"),
        (["events=[{folder}/b.parquet]", "label=hate"], "label=hate: must be one of"),
        (["events=[{folder}/b.parquet]", "measure_from=9999999999999"], "name an earlier time"),
    ],
)
def test_a_mistake_is_one_line(files, capsys, arguments, message):
    folder, from_ms = files
    given = [each.format(folder=folder) for each in [f"measure_from={from_ms}", *arguments]]
    if any(each.startswith("measure_from=9") for each in given):
        given = given[1:]
    with pytest.raises(SystemExit) as stopped:
        run(capsys, *given)
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
