"""The run of millions, with thousands."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.eight_bit_rows import EightBitParts, decoded
from benchmarks.scale_pieces import K, Run
from benchmarks.scale_run import ask, set_tuning

DIM = 32


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def real(tmp_path: Path) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "frames": unit(random.standard_normal((300, DIM))),
        "captions": unit(random.standard_normal((120, DIM))),
        "everyday": unit(random.standard_normal((40, DIM))),
    }


def make_run(folder: Path, real: dict[str, np.ndarray], *, marks: tuple[int, ...] = ()) -> Run:
    folder.mkdir()
    np.savez(folder / "real.npz", **real)
    return Run(folder, [], 10_000, 2, 2_500, 16, "RaBitQ", marks)


def checksums(run: Run) -> list[int]:
    states = [run.state(piece) for piece in range(run.num_pieces)]
    return [state["main"]["faiss_checksum"] for state in states if state is not None]


def test_rows_of_eight_bits_are_off_by_half_a_step_at_most(tmp_path: Path) -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((50, DIM)))
    vectors[7] = 0
    parts = EightBitParts(tmp_path, embedding_dim=DIM)
    rows = parts.quantised(vectors)
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(decoded(rows) - vectors) <= 0.5 * step + 1e-7).all()
    assert (decoded(rows)[7] == 0).all()
    parts.append(rows[:20], part=0)
    parts.append(rows[20:], part=3)
    places = np.array([[3, 5], [0, 2], [3, 0]])
    assert (parts.read(places) == decoded(rows[[25, 2, 20]])).all()
    assert (parts.read_run(3, 2, 6) == decoded(rows[22:26])).all()
    assert parts.row_bytes == DIM + 4


def test_all_lists_and_many_candidates_find_the_true_nearest(tmp_path: Path, real: dict) -> None:
    run = make_run(tmp_path / "run", real, marks=(2_500,))
    run.grow()
    rows = np.concatenate([run.parts.read_run(piece, 0, 2_500) for piece in range(4)])
    for count, shards in ((2_500, 1), (10_000, 2)):
        searchers = run.searchers(count)
        assert len(searchers) == shards
        set_tuning(searchers, {"nprobe": 16, "candidates": 500})
        truth = run.truth(count, "stored")
        for query, expected in zip(run.queries, truth, strict=True):
            by_hand = np.argsort(-(rows[:count] @ query), kind="stable")[:K]
            assert set(by_hand) == set(expected.tolist())
            assert set(ask(searchers, run, query).tolist()) == set(expected.tolist())


def test_a_run_that_was_stopped_goes_on_and_makes_the_same(tmp_path: Path, real: dict) -> None:
    whole, stopped = make_run(tmp_path / "whole", real), make_run(tmp_path / "stopped", real)
    whole.grow()
    quantiser = stopped.quantiser()
    for piece in range(2):
        state = stopped.grow_piece(piece, quantiser)
        stopped.state_path(piece).write_text(json.dumps(state))
    stopped.grow_piece(2, quantiser)  # and is stopped before it is reported
    done = stopped.state_path(1).stat().st_mtime_ns
    stopped.grow()
    assert stopped.state_path(1).stat().st_mtime_ns == done
    assert checksums(stopped) == checksums(whole)
    assert (stopped.truth(10_000, "exact") == whole.truth(10_000, "exact")).all()


def test_pieces_that_an_index_would_keep_apart_are_refused(tmp_path: Path) -> None:
    for count, piece in ((8_000, 2_000), (10_000, 3_000)):
        with pytest.raises(ValueError, match=f"piece={piece}"):
            Run(tmp_path, [], count, 2, piece, 16, "RaBitQ", ())


def test_files_that_were_replaced_are_deleted_but_for_marks(tmp_path: Path, real: dict) -> None:
    run = make_run(tmp_path / "run", real, marks=(7_500,))
    run.grow()
    left = sorted(path.name for path in (tmp_path / "run").glob("shard-*/*.faiss"))
    assert left == [f"moment-main-0000000{number}.faiss" for number in (2, 3, 4)]
