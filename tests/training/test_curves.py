import sys

import numpy as np
import pytest
from PIL import Image

from reelseek.training.curves import EventLog, draw_curves

pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

SIZE = (1100, 715)


def train_record(step, loss=None):
    return {
        "step": step,
        "train/loss": 10.0 / step if loss is None else loss,
        "train/logit_scale": 20.0 + step,
    }


def val_record(step, recall):
    return {"step": step} | {
        f"val/{side}/R@{k}": recall + k for side in ("t2v", "v2t") for k in (1, 5, 10)
    }


def read_events(folder):
    """Steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def picture_of(history, path):
    draw_curves(history, path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", SIZE)
        return np.asarray(image.convert("RGB"))


def panels(picture):
    """Loss and text to video above, video to text and temperature below."""
    rows = np.split(picture[: SIZE[1] // 2 * 2], 2)
    return [half for row in rows for half in np.split(row, 2, axis=1)]


def num_coloured(picture):
    """Pixels that are neither black, nor white, nor grey: those of curves."""
    spread = picture.astype(int).max(axis=2) - picture.astype(int).min(axis=2)
    return int((spread > 40).sum())


def test_curves_are_a_picture_with_each_curve_in_its_panel(tmp_path):
    history = [val_record(0, 10.0), *(train_record(step) for step in range(1, 60))]
    loss, t2v, v2t, temperature = map(num_coloured, panels(picture_of(history, tmp_path / "a.png")))
    assert min(loss, temperature) > 300
    assert min(t2v, v2t) > 30  # markers of one point, and a legend
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_losses_alone_leave_the_panels_of_validation_empty(tmp_path):
    picture = picture_of([train_record(step) for step in range(1, 60)], tmp_path / "a.png")
    loss, t2v, v2t, temperature = map(num_coloured, panels(picture))
    assert (t2v, v2t) == (0, 0)
    assert min(loss, temperature) > 300


def test_other_losses_are_another_curve(tmp_path):
    falling = picture_of([train_record(step, 9.0 - step) for step in range(9)], tmp_path / "a.png")
    rising = picture_of([train_record(step, 1.0 + step) for step in range(9)], tmp_path / "b.png")
    differing = [bool((a != b).any()) for a, b in zip(*map(panels, (falling, rising)), strict=True)]
    assert differing == [True, False, False, False]


def test_run_without_a_step_has_an_empty_picture(tmp_path):
    assert num_coloured(picture_of([], tmp_path / "a.png")) == 0


def test_curves_replace_those_of_before(tmp_path):
    path = tmp_path / "a.png"
    before = picture_of([], path)
    assert (picture_of([train_record(1), train_record(2)], path) != before).any()


def test_events_come_back_as_they_were(tmp_path):
    records = [val_record(0, 10.0), *(train_record(step) for step in range(1, 5))]
    with EventLog(tmp_path) as log:
        for record in records:
            log.add(record)
    expected = {}
    for record in records:
        for name, value in record.items():
            if name != "step":
                expected.setdefault(name, []).append((record["step"], pytest.approx(value)))
    assert read_events(tmp_path) == expected


def test_events_of_before_are_taken_back_by_a_continuation(tmp_path):
    with EventLog(tmp_path) as log:  # killed at step 6; its last checkpoint is that of step 3
        for step in range(1, 7):
            log.add(train_record(step, loss=1.0))
    with EventLog(tmp_path) as log:
        for step in range(1, 9):
            log.add(train_record(step, loss=1.0 if step < 4 else 2.0))
    assert read_events(tmp_path)["train/loss"] == [
        *((step, 1.0) for step in (1, 2, 3)),
        *((step, 2.0) for step in (4, 5, 6, 7, 8)),
    ]


def test_events_are_whole_where_the_run_ends_in_an_error(tmp_path):
    with pytest.raises(KeyError), EventLog(tmp_path) as log:
        log.add(train_record(1, loss=3.0))
        raise KeyError
    assert read_events(tmp_path)["train/loss"] == [(1, 3.0)]


def test_no_folder_no_events(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with EventLog(None) as log:
        log.add(train_record(1))
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_a_run_goes_on_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with EventLog(tmp_path) as log:
        log.add(train_record(1))
    assert "no TensorBoard events are kept: pip install 'reelseek[train]'" in caplog.text
    assert list(tmp_path.iterdir()) == []
