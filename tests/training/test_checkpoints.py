import errno
import pickle

import pytest
import torch

from reelseek.training.checkpoints import Checkpoints, RunState
from reelseek.training.checks import differing_options
from tests.training import tiny_run


def make_state(step=3):
    return RunState(
        step=step,
        weights={"head.weight": torch.arange(6.0).reshape(2, 3)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
        options={"loop": {"seed": 0}, "data": ["a.jsonl"]},
        best_score=12.5,
        history=[{"step": 1, "train/loss": 2.0}],
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Bomb:
    """To unpickle it is to make a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def test_state_comes_back_as_it_was(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder")
    checkpoints.save_last(make_state())
    read = checkpoints.read_last()
    assert torch.equal(read.weights.pop("head.weight"), make_state().weights["head.weight"])
    assert torch.equal(read.optimizer["state"].pop(0)["step"], torch.tensor(3.0))
    assert read == RunState(
        **vars(make_state())
        | {"weights": {}, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    )
    assert names(tmp_path / "new" / "folder") == ["last.pt"]


def test_best_weights_come_back_as_they_were(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(make_state().weights)
    (name, tensor), *rest = checkpoints.read_best().items()
    assert (name, tensor.tolist(), rest) == ("head.weight", [[0, 1, 2], [3, 4, 5]], [])


def test_before_the_first_there_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.read_last() is None
    assert checkpoints.read_best() is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError(
            "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nframe #0"
        ),
    ],
)
def test_full_disk_is_one_line_and_keeps_the_checkpoint_of_before(tmp_path, monkeypatch, error):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(make_state(step=3))

    def save_half(values, path):
        path.write_bytes(b"PK half of it")
        raise error

    monkeypatch.setattr(torch, "save", save_half)
    with pytest.raises(
        ValueError, match=r"last\.pt cannot be saved \(.*the previous checkpoint is kept"
    ) as raised:
        checkpoints.save_last(make_state(step=4))
    assert len(str(raised.value).splitlines()) == 1
    reason = "No space left on device" if isinstance(error, OSError) else "unexpected pos"
    assert reason in str(raised.value)
    monkeypatch.undo()
    assert checkpoints.read_last().step == 3
    assert names(tmp_path) == ["last.pt"]


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/checkpoints/last\.pt cannot be saved"):
        Checkpoints(tmp_path / "file" / "checkpoints").save_last(make_state())


def damage(content, how):
    middle = len(content) // 2
    return {
        "empty": b"",
        "half": content[:middle],
        "noise": bytes(range(256)) * 8,
        "text": b"not a checkpoint\n",
    }[how]


@pytest.mark.parametrize("how", ["empty", "half", "noise", "text"])
@pytest.mark.parametrize("which", ["last", "best"])
def test_damaged_file_says_what_to_do(tmp_path, which, how):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(make_state())
    checkpoints.save_best(make_state().weights)
    path = tmp_path / f"{which}.pt"
    path.write_bytes(damage(path.read_bytes(), how))
    read = checkpoints.read_last if which == "last" else checkpoints.read_best
    with pytest.raises(ValueError, match=rf"{which}\.pt is damaged: delete {tmp_path}") as raised:
        read()
    assert len(str(raised.value).splitlines()) == 1


def test_flipped_byte_of_a_weight_is_noticed(tmp_path):
    weights = {"head.weight": torch.full((64,), 1.25)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_best(weights)
    path = tmp_path / "best.pt"
    content = bytearray(path.read_bytes())
    content[content.index(weights["head.weight"].numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.read_best()


@pytest.mark.parametrize("content", [{"head.weight": torch.zeros(2)}, [1, 2], torch.zeros(2)])
def test_file_that_holds_no_state_is_a_damaged_one(tmp_path, content):
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="damaged"):
        Checkpoints(tmp_path).read_last()


@pytest.mark.parametrize(
    "save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))]
)
def test_file_with_a_program_in_it_is_refused(tmp_path, save):
    made = tmp_path / "made"
    save({"step": Bomb(made)}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="damaged"):
        Checkpoints(tmp_path).read_last()
    assert not made.exists()


def test_weights_of_another_shape_are_named_and_nothing_is_changed(tmp_path):
    trainer = tiny_run.make_trainer(tmp_path)
    tiny_run.run(trainer)
    state = Checkpoints(tmp_path).read_last()
    name = "image.head.weight"
    state.weights[name] = torch.zeros(16, 11)
    other = tiny_run.make_trainer(tmp_path)
    before = {name: part.clone() for name, part in other.network.trained_state().items()}
    with pytest.raises(ValueError, match=rf"{name} has shape \(16, 11\) there and \(16, 12\) in"):
        other.restore(state)
    assert other.state.step == 0
    for name, part in other.network.trained_state().items():
        assert torch.equal(part, before[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("logit_scale"), r"logit_scale has shape none there and \(\)"),
        (lambda weights: weights.update(x=torch.zeros(2)), r"x has shape \(2,\) there and none"),
    ],
)
def test_weights_that_are_missing_or_too_many_are_named(tmp_path, change, message):
    trainer = tiny_run.make_trainer(tmp_path)
    tiny_run.run(trainer)
    state = Checkpoints(tmp_path).read_last()
    change(state.weights)
    with pytest.raises(ValueError, match=message):
        tiny_run.make_trainer(tmp_path).restore(state)


def test_equal_options_do_not_differ():
    assert differing_options({"a": {"b": [1, 2]}, "c": None}, {"c": None, "a": {"b": [1, 2]}}) == []


def test_differing_options_are_named_with_both_values():
    ours = {"loop": {"seed": 1, "epochs": 5}, "data": {"train": ["a.jsonl"]}, "new": True}
    theirs = {"loop": {"seed": 2, "epochs": 5}, "data": {"train": ["b.jsonl"]}, "old": "x"}
    assert differing_options(ours, theirs) == [
        'data.train (["b.jsonl"] there, ["a.jsonl"] here)',
        "loop.seed (2 there, 1 here)",
        "new (null there, true here)",
        'old ("x" there, null here)',
    ]


def test_group_in_place_of_a_value_differs():
    assert differing_options({"a": {"b": 1}}, {"a": None}) == ['a (null there, {"b": 1} here)']
