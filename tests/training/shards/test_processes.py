"""Shards read by two processes of torchrun, and by one: the same run."""

import torch

from tests.training import tiny_run


def test_two_processes_train_on_shards_as_one_does(two_processes, tmp_path):
    alone = tiny_run.train_on_shards(tmp_path / "shards", tiny_run.ALONE)
    first, second = (report["streamed"] for report in two_processes.reports)
    skipped = [record["data/num_skipped"] for record in alone.state.history]
    assert len(skipped) == 2 * (9 * 8 // tiny_run.BATCH_SIZE)
    assert sum(skipped) >= 2
    for history in (first, second):
        assert [record["data/num_skipped"] for record in history] == skipped
        torch.testing.assert_close(
            [record["train/loss"] for record in history],
            [record["train/loss"] for record in alone.state.history],
            atol=1e-5,
            rtol=1e-5,
        )
    weights = [each["streamed"] for each in two_processes.weights]
    for name, expected in alone.finished_weights().items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], expected, atol=1e-5, rtol=1e-4)


def test_both_processes_name_what_was_skipped_once(two_processes):
    """The first process writes what both of them met."""
    report = two_processes.folder / "shards" / "skipped.tsv"
    names = [line.split("\t")[0] for line in report.read_text().splitlines()]
    assert [name.rpartition("/")[2] for name in sorted(names)] == [
        "0001.tar, '0002.png'",
        "0004.tar",
        "0006.tar, '0007.png'",
    ]
