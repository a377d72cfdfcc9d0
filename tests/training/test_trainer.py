import errno
import math

import pytest
import torch

from reelseek.training.batches import collate
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.order import EpochBatches
from reelseek.training.trainer import NonFiniteLossError
from tests.training import tiny_run
from tests.training.tiny_run import NUM_STEPS, STEPS_EACH, losses_of, make_trainer, resume, run

pytestmark = pytest.mark.long


class Scripted:
    """A validation whose scores are written down, and which keeps the weights that it is shown."""

    def __init__(self, *scores):
        self._scores = list(scores)
        self.seen = []
        self.were_training = []

    def measure(self, network):
        self.were_training.append(network.training)
        self.seen.append(copied(network.trained_state()))
        score = self._scores.pop(0) if self._scores else 0.0
        side = {"R@1": score, "R@5": score, "R@10": score, "MdR": 1.0, "MnR": 1.0}
        return {"t2v": side, "v2t": side}


class Killed(BaseException):
    """Ends a run where it stands, as a kill does."""


def copied(state):
    return {name: part.clone() for name, part in state.items()}


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, part in ours.items():
        assert torch.equal(part, theirs[name]), name


def validated_at(trainer):
    return [record["step"] for record in trainer.state.history if "val/t2v/R@1" in record]


def kill_after(trainer, last):
    def after_step(step):
        if step == last:
            raise Killed

    with pytest.raises(Killed):
        run(trainer, after_step=after_step)


def whole_run(folder, **options):
    trainer = make_trainer(folder, validation=Scripted(1.0, 2.0, 3.0), **options)
    assert run(trainer)
    return trainer


def test_loss_falls_and_each_step_is_in_the_history(tmp_path):
    trainer = whole_run(tmp_path, epochs=10)
    losses = losses_of(trainer)
    assert len(losses) == trainer.num_steps == 40
    assert sum(losses[-4:]) < sum(losses[:4]) - 2
    steps = [record["step"] for record in trainer.state.history if "train/loss" in record]
    assert steps == list(range(1, 41))
    for record in trainer.state.history:
        assert all(math.isfinite(value) for value in record.values())


def test_first_step_by_hand(tmp_path):
    """One step of AdamW from its definition, with the gradient clipped."""
    trainer = make_trainer(tmp_path, epochs=1, warmup_steps=0, max_grad_norm=0.01, batch_size=40)
    network, before = trainer.network, copied(trainer.network.trained_state())
    run(trainer)
    moved = before["image.head.weight"] - network.trained_state()["image.head.weight"]
    # In the first step, each entry moves by lr * g / (|g| + eps), and decays by lr * 0.1.
    decayed = 1e-2 * 0.1 * before["image.head.weight"]
    fraction = (moved - decayed) / 1e-2
    gradient = network.image.head.weight.grad  # as it was clipped
    torch.testing.assert_close(fraction, gradient / (gradient.abs() + 1e-6), rtol=1e-3, atol=1e-3)
    total = sum(float(p.grad.square().sum()) for p in network.parameters() if p.requires_grad)
    assert math.sqrt(total) == pytest.approx(0.01, rel=1e-3)
    assert trainer.state.history[0]["train/grad_norm"] > 0.01  # before it was clipped


def test_only_what_trains_changes(tmp_path):
    trainer = make_trainer(tmp_path)
    before = copied(trainer.network.state_dict())
    run(trainer)
    after = trainer.network.state_dict()
    # The modules are the model's own, so a tensor may have several names.
    changed = {name.rpartition(".")[2] for name in before if not before[name].equal(after[name])}
    assert changed == {"weight", "logit_scale"}
    trained = {name for name in before if not before[name].equal(after[name])}
    assert trained == {"image.head.weight", "text.head.weight", "logit_scale"}


def test_accumulated_step_has_the_mean_of_the_gradients(tmp_path):
    options = {"epochs": 1, "warmup_steps": 0, "max_grad_norm": 0.0, "frames_per_video": 0}
    trainer = make_trainer(tmp_path, accumulate_steps=4, **options)
    other = make_trainer(tmp_path / "other", **options)
    positions = other._batches.of_epoch(0)
    expected_loss = 0.0
    for position in positions:
        pairs = [other._source[number] for number in position]
        batch = collate(pairs)
        loss = other._objective(*other.network(batch), batch.ids) / 4
        loss.backward()
        expected_loss += loss.item()
    run(trainer)
    assert trainer.num_steps == 1
    assert losses_of(trainer) == pytest.approx([expected_loss], abs=1e-5)
    torch.testing.assert_close(
        trainer.network.image.head.weight.grad, other.network.image.head.weight.grad
    )


def test_more_batches_to_a_step_than_an_epoch_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"accumulate_steps=5: an epoch has only 4 batches"):
        make_trainer(tmp_path, accumulate_steps=5)


@pytest.mark.parametrize(
    ("stop_after", "num_workers"),
    [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (7, 0), (8, 0), (2, 2), (4, 2)],
)
def test_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, stop_after, num_workers):
    """In an epoch, at its end (4), and at the end of the run (8)."""
    options = {"num_workers": num_workers, "frames_per_video": 2}
    whole = whole_run(tmp_path / "whole", **options)

    first_validation = Scripted(1.0, 2.0, 3.0)
    stopped = make_trainer(tmp_path / "run", validation=first_validation, **options)
    assert run(stopped, stop_after=stop_after) is False
    assert stopped.state.step == stop_after
    validation = Scripted(*[1.0, 2.0, 3.0][len(first_validation.seen) :])
    resumed = resume(tmp_path / "run", validation=validation, **options)
    assert resumed.state.step == stop_after
    assert run(resumed) is True

    assert resumed.state.history == whole.state.history  # to the last digit, and none twice
    assert_equal(resumed.finished_weights(), whole.finished_weights())
    assert validated_at(resumed) == [0, 4, 8]
    assert len(first_validation.seen) + len(validation.seen) == 3
    assert resumed.state.best_score == 3.0


@pytest.mark.parametrize(
    ("loss", "trains", "options"),
    [
        ("sigmoid", "heads", {"chunk_size": 3}),
        ("infonce", "all", {"chunk_size": 3, "accumulate_steps": 2}),
        ("infonce", "heads", {"chunk_size": 3, "feature_dropout": 0.3}),
    ],
)
def test_sigmoid_trunks_chunks_and_dropout_go_on_too(tmp_path, loss, trains, options):
    options = options | {"loss": loss, "trains": trains}
    whole = whole_run(tmp_path / "whole", **options)
    run(make_trainer(tmp_path / "run", validation=Scripted(), **options), stop_after=3)
    resumed = resume(tmp_path / "run", validation=Scripted(), **options)
    run(resumed)
    assert losses_of(resumed) == losses_of(whole)
    assert_equal(resumed.finished_weights(), whole.finished_weights())


def test_run_that_is_stopped_after_every_step_comes_to_the_same_end(tmp_path):
    whole = whole_run(tmp_path / "whole")
    trainer = make_trainer(tmp_path / "run", validation=Scripted())
    for step in range(1, NUM_STEPS + 1):
        assert run(trainer, stop_after=step) is False
        trainer = resume(tmp_path / "run", validation=Scripted())
    assert run(trainer) is True
    assert losses_of(trainer) == losses_of(whole)
    assert validated_at(trainer) == [0, 4, 8]


def test_killed_run_goes_on_from_the_checkpoint_before(tmp_path):
    whole = whole_run(tmp_path / "whole")
    killed = make_trainer(tmp_path / "run", validation=Scripted(1.0, 2.0))
    kill_after(killed, 6)  # the last checkpoint is that of the epoch's end
    resumed = resume(tmp_path / "run", validation=Scripted(3.0))
    assert resumed.state.step == 4
    run(resumed)
    assert resumed.state.history == whole.state.history
    assert_equal(resumed.finished_weights(), whole.finished_weights())


def test_run_that_is_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    kill_after(make_trainer(tmp_path), 3)
    assert Checkpoints(tmp_path).read_last() is None


def test_checkpoints_are_saved_when_they_are_due(tmp_path):
    kill_after(make_trainer(tmp_path, save_every_seconds=0.0), 3)
    assert Checkpoints(tmp_path).read_last().step == 2


def test_features_are_dropped_in_training_and_not_in_validation(tmp_path):
    validation = Scripted()
    dropped = make_trainer(tmp_path / "dropped", validation=validation, feature_dropout=0.5)
    run(dropped)
    assert validation.were_training == [False] * 3
    assert losses_of(dropped)[0] != losses_of(whole_run(tmp_path / "whole"))[0]


def test_finished_run_does_nothing_more(tmp_path):
    whole_run(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    validation = Scripted()
    again = resume(tmp_path, validation=validation)
    assert run(again, after_step=lambda step: pytest.fail("a step was done")) is True
    assert validation.seen == []
    assert (tmp_path / "last.pt").read_bytes() == before


def test_validation_after_a_stop_at_the_last_step_is_kept(tmp_path):
    run(make_trainer(tmp_path, validation=Scripted(1.0, 2.0)), stop_after=NUM_STEPS)
    assert run(resume(tmp_path, validation=Scripted(3.0)))
    again = Scripted()
    run(resume(tmp_path, validation=again))
    assert again.seen == []


@pytest.mark.parametrize(
    ("eval_every", "epochs", "expected"),
    [(1, 3, [0, 4, 8, 12]), (2, 4, [0, 8, 16]), (2, 3, [0, 8, 12]), (5, 2, [0, 8])],
)
def test_validation_is_before_the_first_step_and_after_epochs_and_at_the_end(
    tmp_path, eval_every, epochs, expected
):
    assert validated_at(whole_run(tmp_path, eval_every=eval_every, epochs=epochs)) == expected


def test_validation_changes_nothing(tmp_path):
    bare = make_trainer(tmp_path / "bare")
    run(bare)
    validated = whole_run(tmp_path / "validated", wise_ft_alpha=0.5)
    assert losses_of(validated) == losses_of(bare)
    assert_equal(validated.network.trained_state(), bare.network.trained_state())


@pytest.mark.parametrize(
    ("scores", "best"),
    [((1.0, 5.0, 3.0), 1), ((1.0, 2.0, 3.0), 2), ((9.0, 2.0, 3.0), 0), ((1.0, 4.0, 4.0), 1)],
)
@pytest.mark.parametrize("wise_ft_alpha", [0.0, 0.25])
def test_best_weights_are_kept(tmp_path, scores, best, wise_ft_alpha):
    validation = Scripted(*scores)
    trainer = make_trainer(tmp_path, validation=validation, wise_ft_alpha=wise_ft_alpha)
    run(trainer)
    assert_equal(Checkpoints(tmp_path).read_best(), validation.seen[best])
    assert trainer.state.best_score == max(scores)
    assert_equal(validation.seen[2], trainer.finished_weights())


def test_best_weights_of_before_a_stop_are_not_replaced_by_worse_ones(tmp_path):
    validation = Scripted(1.0, 5.0)
    run(make_trainer(tmp_path, validation=validation), stop_after=5)
    resumed = resume(tmp_path, validation=Scripted(4.0))
    run(resumed)
    assert_equal(Checkpoints(tmp_path).read_best(), validation.seen[1])
    assert resumed.state.best_score == 5.0


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("is_resumed", [False, True])
def test_finished_weights_lie_between_the_start_and_what_was_trained(
    tmp_path, fraction, is_resumed
):
    trainer = make_trainer(tmp_path, wise_ft_alpha=fraction)
    start = copied(trainer.network.trained_state())
    run(trainer, stop_after=3 if is_resumed else -1)
    if is_resumed:  # the start is that of the run, not of its continuation
        trainer = resume(tmp_path, wise_ft_alpha=fraction)
        run(trainer)
    trained = copied(trainer.network.trained_state())
    assert not torch.equal(trained["image.head.weight"], start["image.head.weight"])
    for name, part in trainer.finished_weights().items():
        torch.testing.assert_close(part, (1 - fraction) * trained[name] + fraction * start[name])
    trainer.finished_weights()["logit_scale"].zero_()  # a copy
    assert_equal(trainer.network.trained_state(), trained)


def step_of_video(video):
    """The first step whose batch has the video, and the videos of that batch."""
    order = EpochBatches(40, batch_size=4, seed=0).of_epoch(0)
    for step, positions in enumerate(order):
        videos = sorted({number // 2 for _, number in positions})
        if video in videos:
            return step, videos
    raise AssertionError("the video is in no batch")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("chunk_size", [0, 3])
@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_broken_video_is_named_with_the_step_and_changes_no_weight(
    tmp_path, value, chunk_size, loss
):
    video = max(range(20), key=lambda video: step_of_video(video)[0])
    step, batch_videos = step_of_video(video)
    assert step > 1 and len(batch_videos) > 1
    weights = []
    trainer = make_trainer(
        tmp_path,
        loss=loss,
        batch_size=4,
        chunk_size=chunk_size,
        videos=tiny_run.with_broken_video(video, value),
    )
    message = (
        rf"loss is (nan|inf) at step {step + 1} \(epoch 1, step {step + 1} in it\).*: "
        rf"video-{video}.mp4$"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        run(
            trainer, after_step=lambda step: weights.append(copied(trainer.network.trained_state()))
        )
    assert len(weights) == trainer.state.step == step
    assert_equal(trainer.network.trained_state(), weights[-1])
    assert all(part.isfinite().all() for part in weights[-1].values())


def test_broken_video_in_the_first_of_accumulated_batches_changes_no_weight(tmp_path):
    step, _ = step_of_video(7)
    trainer = make_trainer(
        tmp_path, batch_size=4, accumulate_steps=5, videos=tiny_run.with_broken_video(7)
    )
    start = copied(trainer.network.trained_state())
    assert step < 5  # the first step takes it in
    with pytest.raises(NonFiniteLossError, match=r"at step 1 .*video-7\.mp4"):
        run(trainer)
    assert_equal(trainer.network.trained_state(), start)


def test_gradient_that_is_not_finite_changes_no_weight(tmp_path):
    def objective(videos, texts, scale, bias, ids):
        return scale + (0 * videos).sum().square().sqrt()  # whose slope at 0 is not a number

    trainer = make_trainer(tmp_path, objective=objective)
    start = copied(trainer.network.trained_state())
    with pytest.raises(NonFiniteLossError, match=r"norm of the gradient is nan at step 1"):
        run(trainer)
    assert_equal(trainer.network.trained_state(), start)


@pytest.mark.parametrize(("sign", "near", "bound"), [(-1, 4.604, 100.0), (1, 0.001, 1.0)])
def test_temperature_is_kept_within_its_bounds(tmp_path, sign, near, bound):
    def objective(videos, texts, scale, bias, ids):
        return sign * scale + 0 * (videos.sum() + texts.sum())

    trainer = make_trainer(tmp_path, objective=objective, epochs=3, warmup_steps=0)
    with torch.no_grad():
        trainer.network.logit_scale.fill_(near)
    run(trainer)
    assert trainer.state.history[-1]["train/logit_scale"] == pytest.approx(bound, rel=1e-3)


def test_full_disk_ends_the_run_and_it_goes_on_from_the_checkpoint_of_before(tmp_path, monkeypatch):
    whole = whole_run(tmp_path / "whole")
    trainer = make_trainer(tmp_path / "run", validation=Scripted(5.0))
    save = torch.save

    def save_until_full(values, path):
        if values.get("step", 0) > STEPS_EACH:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(values, path)

    monkeypatch.setattr(torch, "save", save_until_full)
    with pytest.raises(ValueError, match=r"last\.pt cannot be saved \(No space left") as raised:
        run(trainer)
    assert len(str(raised.value).splitlines()) == 1
    monkeypatch.undo()
    resumed = resume(tmp_path / "run", validation=Scripted())
    assert resumed.state.step == STEPS_EACH
    run(resumed)
    assert losses_of(resumed) == losses_of(whole)
