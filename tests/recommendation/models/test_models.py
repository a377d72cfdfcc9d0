"""Models of the log: what is built is read again, fits or is refused, and knows nobody deleted."""

import json
from pathlib import Path

import numpy as np
import pytest

from reelseek.configs.composition import default_values
from reelseek.configs.sequential_schema import (
    SequentialConfig,
    SequentialNetworkConfig,
)
from reelseek.indexing.store.manifest import IndexMismatchError
from reelseek.recommendation.__main__ import main
from reelseek.recommendation.als import AlsSettings
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.models import folder as models
from reelseek.recommendation.models.building import BuildSettings, build
from tests.indexing.small_index import SETTINGS
from tests.recommendation.logs import NOW, ids_in_order, index_of_axes, watch

VIDEOS = [f"v{number}" for number in range(12)]
FACTORS = AlsSettings(num_factors=4, iterations=2)


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "events")
    for user in range(12):
        watch(log, f"user{user}", [VIDEOS[(user + step) % 12] for step in range(4)], start=NOW)
    yield log
    log.close()


class Looks:
    """Videos that look like nothing else."""

    def embeddings(self, rows):
        return np.eye(200, dtype=np.float32)[rows]


def learned(
    log, videos=VIDEOS, factors=FACTORS, sequential=None, progress=lambda fraction, text: None
):
    return build(
        log,
        {video: row for row, video in enumerate(videos)},
        Looks(),
        BuildSettings(factors=factors, sequential=sequential),
        fingerprint="f",
        progress=progress,
        clock=lambda: NOW,
    )


def test_what_is_written_is_read_again(log, tmp_path):
    pytest.importorskip("implicit")
    built = learned(log)
    assert models.read(tmp_path / "models", fingerprint="f") is None
    assert models.current_signature(tmp_path / "models") == ()
    assert models.write(tmp_path / "models", built) == 1
    found = models.read(tmp_path / "models", fingerprint="f")
    assert found.info == built.info.__class__(**{**vars(built.info), "version": 1})
    assert found.table.ids == built.table.ids
    for name in ("offsets", "neighbors", "counts", "watchers", "popular"):
        np.testing.assert_array_equal(getattr(found.table, name), getattr(built.table, name))
    np.testing.assert_array_equal(found.factors.factors, built.factors.factors)
    before = models.current_signature(tmp_path / "models")
    for version in (2, 3):
        assert models.write(tmp_path / "models", built) == version
    assert models.current_signature(tmp_path / "models") != before
    assert sorted(path.name for path in (tmp_path / "models").glob("model-*")) == [
        *("model-000002", "model-000003"),
    ]


SMALL = {
    "network": SequentialNetworkConfig(
        **(default_values(SequentialConfig)["network"] | {"dim": 8, "num_blocks": 1})
    ),
}


@pytest.fixture(scope="module")
def watched_in_a_circle(tmp_path_factory):
    """A log in which the next video always follows the one before."""
    log = EventLog(tmp_path_factory.mktemp("circle") / "events")
    for user in range(120):
        watch(log, f"user{user}", [VIDEOS[(user + step) % 12] for step in range(6)], start=NOW)
    yield log
    log.close()


@pytest.fixture(scope="module")
def built_in_a_circle(watched_in_a_circle):
    return learned(watched_in_a_circle, [*VIDEOS, "new"], factors=None, sequential=SMALL)


@pytest.mark.parametrize("has_cells", [False, True])
def test_a_sequential_model_is_written_and_knows_what_nobody_watched(
    built_in_a_circle, tmp_path, monkeypatch, has_cells
):
    monkeypatch.setattr(models, "needs_cells", lambda num: has_cells)
    built = built_in_a_circle
    models.write(tmp_path, built)
    found = models.read(tmp_path, fingerprint="f")
    assert (found.sequential_cells is not None) == has_cells
    model = found.sequential
    assert sorted(model.item_ids) == sorted([*VIDEOS, "new"])
    np.testing.assert_array_equal(model.item_vectors(), built.sequential.item_vectors())
    assert np.linalg.norm(model.item_vectors()[model.item_ids.index("new")]) > 0
    number = {video: index for index, video in enumerate(model.item_ids)}
    for last in (4, 7):
        history = np.array([number[VIDEOS[last - 1]], number[VIDEOS[last]]], np.int32)
        scores = (model.history_vectors([history]) @ model.item_vectors().T)[0]
        assert number[VIDEOS[last + 1]] in np.argsort(-scores)[:3]


def test_few_users_have_no_sequential_model(log):
    assert learned(log, factors=None, sequential=SMALL).sequential is None


@pytest.mark.parametrize("name", ["sequential.json", "sequential.safetensors"])
def test_a_damaged_sequential_model_is_said(built_in_a_circle, tmp_path, name):
    models.write(tmp_path, built_in_a_circle)
    (path,) = tmp_path.rglob(name)
    path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    with pytest.raises(ValueError, match="build the model again"):
        models.read(tmp_path, fingerprint="f")


def test_building_repeats(log, tmp_path):
    pytest.importorskip("implicit")
    one, other = learned(log), learned(log)
    np.testing.assert_array_equal(one.factors.factors, other.factors.factors)


def test_a_model_of_another_index_is_refused(log, tmp_path):
    models.write(tmp_path, learned(log, factors=None))
    with pytest.raises(IndexMismatchError, match="another model"):
        models.read(tmp_path, fingerprint="g")


@pytest.mark.parametrize(
    "name", ["current.json", "model.json", "items.json", "counts.npy", "offsets.npy"]
)
@pytest.mark.parametrize("how", ["cut", "changed", "missing"])
def test_damage_is_said(log, tmp_path, name, how):
    models.write(tmp_path, learned(log, factors=None))
    (path,) = tmp_path.rglob(name)
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content[:-3] + b"xyz")
    if (name, how) == ("current.json", "missing"):
        assert models.read(tmp_path, fingerprint="f") is None
        return
    with pytest.raises(ValueError, match="build the model again"):
        models.read(tmp_path, fingerprint="f")


def test_nothing_names_a_user_and_nobody_deleted_is_known(log, tmp_path):
    watch(log, "deleted-user", ["v0", "only-of-them"], start=NOW)
    with_them = learned(log, [*VIDEOS, "only-of-them"], factors=None)
    assert "only-of-them" in with_them.table.ids
    log.delete_user("deleted-user")
    without = learned(log, [*VIDEOS, "only-of-them"], factors=None)
    assert "only-of-them" not in without.table.ids
    models.write(tmp_path / "models", without)
    for path in (tmp_path / "models").rglob("*"):
        if path.is_file():
            assert b"user" not in path.read_bytes().replace(b"num_users", b"").replace(
                b"per_user", b""
            )


def test_who_is_deleted_while_a_model_is_made_is_not_in_it(log):
    is_first = True

    def delete(fraction, text):
        nonlocal is_first
        if is_first and text.startswith("counting"):
            is_first = False
            log.delete_user("user0")

    assert learned(log, factors=None, progress=delete).info.num_users == 11


def test_only_videos_of_the_index_and_few_users(tmp_path):
    log = EventLog(tmp_path)
    empty = learned(log)
    assert (empty.info.num_users, empty.table.ids, empty.factors) == (0, (), None)
    watch(log, "ann", ["v0", "gone", "v1"], start=NOW)
    one = learned(log)
    assert (one.info.num_users, one.table.ids, one.factors) == (1, ("v0", "v1"), None)
    log.close()


def run(capsys, **options) -> dict:
    from reelseek.configs.composition import compose
    from reelseek.configs.feed_schema import BuildRecommenderConfig

    main(compose(BuildRecommenderConfig, [f"{name}={value}" for name, value in options.items()]))
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_command(tmp_path, capsys):
    reader = index_of_axes(tmp_path / "index", [0, 1, 2])
    ids = ids_in_order(reader, 3)
    reader.close()
    log = EventLog(tmp_path / "events")
    watch(log, "ann", ids, start=NOW)
    log.close()
    for version in (1, 2):
        summary = run(capsys, index=tmp_path / "index", events=tmp_path / "events")
        assert summary.pop("seconds") >= 0
        assert summary == {
            **{"version": version, "num_users": 1, "num_items": 3, "num_events": 3},
            **{"position": 3, "has_factors": False, "has_sequential": False},
        }
    found = models.read(tmp_path / "events" / "models", fingerprint=SETTINGS.fingerprint)
    assert found is not None and set(found.table.ids) == set(ids)


@pytest.mark.parametrize("missing", ["index", "events"])
def test_the_command_says_what_is_missing(tmp_path, capsys, missing):
    folders = {"index": tmp_path / "index", "events": tmp_path / "events"}
    for name, folder in folders.items():
        if name != missing:
            folder.mkdir()
    with pytest.raises(ValueError, match=f"^{missing}=.*no such folder"):
        run(capsys, **folders)
    assert not Path(tmp_path / "events" / "models").exists()
