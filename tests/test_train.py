"""`train.py` in processes of its own; what else there is to a run is in
tests/training/test_run.py."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tests.conftest
from tests.command_lines import PROJECT, assert_user_error
from tests.conftest import COLOURS
from tests.training.test_run import NUM_STEPS, Collection, last_state, losses, recalls, run_here

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["data.val=b.jsonl"], ["eval_only=true"]),
        (["eval_only=true"], ["data.val is missing"]),
        (["eval_only=true", "data.val=none.jsonl"], ["none.jsonl", "no such file"]),
    ],
)
def test_bad_argument_is_one_line_and_exit_code_2(arguments, parts):
    assert_user_error(run_here(*arguments), *parts)


def test_output_that_cannot_be_made_is_named_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    process = run_here("eval_only=true", "data.val=none.jsonl", f"output={tmp_path}/file")
    assert_user_error(process, f"output={tmp_path}/file", "cannot be made")


@pytest.mark.model
def test_evaluation_ends_with_a_line_of_metrics(tmp_path):
    write_video = tests.conftest.write_video.__wrapped__(tmp_path)
    lines = []
    for name, colour in COLOURS.items():
        write_video(f"{name}.mp4", [colour] * 6)
        captions = [f"a {name} wall", f"the colour {name}"]
        lines.append(json.dumps({"video": f"{name}.mp4", "captions": captions}))
    (tmp_path / "val.jsonl").write_text("\n".join(lines))
    output = tmp_path / "output"
    process = run_here(
        "eval_only=true", f"data.val={tmp_path}/val.jsonl", "model=mini", f"output={output}"
    )
    assert process.returncode == 0, process.stderr
    metrics = json.loads(process.stdout.splitlines()[-1])
    for side in ("t2v", "v2t"):
        assert metrics[side].keys() == {"R@1", "R@5", "R@10", "MdR", "MnR", "interval_95"}
    assert metrics["t2v"]["R@5"] == 100.0  # of three videos
    assert (metrics["num_queries"], metrics["num_gallery"], metrics["num_failed"]) == (6, 3, 0)
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert "name: mini" in (output / "config.yaml").read_text()


# Training, in processes of their own.


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def whole_run(collection, tmp_path_factory):
    """A run that nothing has stopped: its output, and its metrics."""
    output = tmp_path_factory.mktemp("whole") / "output"
    return output, run_here(*collection.arguments(output)).metrics


@pytest.fixture
def start(tmp_path):
    """Starts `python ARGUMENTS`; what is left of it when the test ends is killed."""
    processes = []

    def start_process(*arguments):
        processes.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"REELSEEK_CACHE": str(tmp_path / "cache")},
            )
        )
        return processes[-1]

    yield start_process
    for process in processes:
        process.kill()
        process.communicate()


def assert_same_run(output, whole_output):
    assert losses(output) == pytest.approx(losses(whole_output), rel=1e-3)
    assert recalls(output) == recalls(whole_output)


def test_run_that_is_stopped_and_started_again_trains_a_model(
    collection, whole_run, start, tmp_path, monkeypatch
):
    output = tmp_path / "output"
    arguments = collection.arguments(output, "data.cache=MISSING")
    process = start("train.py", *arguments)
    deadline = time.monotonic() + 120
    while not (output / "checkpoints" / "last.pt").is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (128 + signal.SIGTERM, "")
    assert "Traceback" not in stderr
    assert stderr.endswith("stopped; the same command goes on\n")
    num_steps = last_state(output).step
    assert 1 <= num_steps < NUM_STEPS

    monkeypatch.setenv("REELSEEK_CACHE", str(tmp_path / "cache"))
    done = run_here(*arguments)
    metrics = done.metrics
    assert f"going on after step {num_steps} of {NUM_STEPS}" in done.stderr
    assert "caching frames" not in done.stderr
    assert_same_run(output, whole_run[0])
    assert {"t2v", "v2t", "num_queries", "num_gallery", "rescored", "sources"} <= metrics.keys()
    assert metrics["rescored"].keys() == {"dual_softmax", "querybank_norm"}
    assert metrics["rescored"]["querybank_norm"]["num_bank"] == 16
    assert metrics["t2v"] == whole_run[1]["t2v"]
    assert json.loads((output / "metrics.json").read_text()) == metrics
    assert f"name: {collection.model}\n" in (output / "config.yaml").read_text()
    assert (output / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (output / "checkpoints").iterdir()} == {"last.pt", "best.pt"}
    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    logged = [event.value for event in events.Scalars("train/loss")]
    assert logged == pytest.approx(losses(output))


def test_two_processes_end_as_one(collection, whole_run, start, tmp_path):
    output = tmp_path / "output"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    process = start(*torchrun, "train.py", *collection.arguments(output))
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    (line,) = stdout.splitlines()
    assert json.loads(line)["t2v"] == whole_run[1]["t2v"]
    assert_same_run(output, whole_run[0])
