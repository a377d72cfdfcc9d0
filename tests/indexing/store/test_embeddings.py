import numpy as np
import pytest

from reelseek.indexing.store import embeddings
from reelseek.indexing.store.embeddings import EmbeddingParts, half_to_single

D = 5


@pytest.fixture
def parts(tmp_path):
    return EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)


@pytest.fixture
def stored(parts):
    """What lies in each part, as float16 keeps it."""
    rng = np.random.default_rng(0)
    by_part = {part: rng.normal(size=(n, D)) for part, n in ((1, 7), (2, 1), (30, 12))}
    for part, rows in by_part.items():
        parts.append(rows, part=part)
    return {part: rows.astype(np.float16).astype(np.float32) for part, rows in by_part.items()}


def part_path(tmp_path, part=1):
    return tmp_path / "embeddings" / f"part-{part:08d}.npy"


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "embeddings").iterdir())


def test_gathering_equals_looking_up_each_row(parts, stored):
    everywhere = [(part, row) for part, rows in stored.items() for row in range(len(rows))]
    rng = np.random.default_rng(1)
    chosen = np.array(everywhere)[rng.integers(len(everywhere), size=100)]  # with repeats
    gathered = parts.read(chosen)
    assert gathered.dtype == np.float32
    np.testing.assert_array_equal(gathered, [stored[part][row] for part, row in chosen.tolist()])


def test_every_finite_half_becomes_the_same_single():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    singles = half_to_single(halves)
    assert singles.dtype == np.float32
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(singles.view(np.uint32), expected.view(np.uint32))


def test_gathering_nothing_gives_nothing(parts):
    assert parts.read(np.empty((0, 2), np.int64)).shape == (0, D)


def test_part_of_no_rows_is_allowed(parts):
    parts.append(np.empty((0, D)), part=1)
    with pytest.raises(ValueError, match="is damaged at row 0"):
        parts.read(np.array([[1, 0]]))


def test_rows_are_read_by_another_process_s_eyes(parts, stored, tmp_path):
    again = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
    np.testing.assert_array_equal(again.read(np.array([[30, 11]])), stored[30][[11]])


def test_run_of_rows_equals_looking_up_each(parts, stored):
    for part, rows in stored.items():
        for first in range(len(rows)):
            for count in range(len(rows) - first + 1):
                run = parts.read_run(part, first, count)
                assert run.shape == (count, D)
                np.testing.assert_array_equal(run, rows[first : first + count])


def test_run_of_rows_is_float32_as_gathered_rows_are(parts, stored):
    assert parts.read_run(1, 0, 7).dtype == parts.read(np.array([[1, 0]])).dtype == np.float32


def test_parts_are_numbered_and_counted(parts, stored):
    assert parts.numbers() == {1, 2, 30}
    assert {part: parts.num_rows(part) for part in stored} == {1: 7, 2: 1, 30: 12}


def test_missing_part_is_named(parts, stored):
    with pytest.raises(ValueError, match=r"part-00000009.npy is missing or damaged"):
        parts.read(np.array([[1, 0], [9, 0]]))


def test_row_that_a_part_lacks_is_named(parts, stored):
    with pytest.raises(ValueError, match=r"part-00000002.npy is damaged at row 1; run .*repair"):
        parts.read(np.array([[2, 0], [2, 1]]))


def test_part_cut_anywhere_is_refused(parts, stored, tmp_path):
    content = part_path(tmp_path).read_bytes()
    for size in range(len(content)):
        part_path(tmp_path).write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"part-00000001.npy is (missing or )?damaged"):
            parts.read(np.array([[1, 0]]))


def test_flipped_bit_is_noticed_in_its_row_alone(parts, stored, tmp_path):
    content = part_path(tmp_path).read_bytes()
    head = len(content) - 7 * parts._dtype.itemsize
    for position in range(head, len(content)):
        flipped = bytes([content[position] ^ 1 << position % 8])
        part_path(tmp_path).write_bytes(content[:position] + flipped + content[position + 1 :])
        fresh = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
        bad = (position - head) // parts._dtype.itemsize
        assert fresh.damaged_rows(1, 7).tolist() == [bad]
        for row in range(7):
            if row == bad:
                with pytest.raises(ValueError, match=f"part-00000001.npy is damaged at row {row};"):
                    fresh.read(np.array([[1, row]]))
                with pytest.raises(ValueError, match=f"damaged at row {row};"):
                    fresh.read_run(1, 0, 7)
            else:
                np.testing.assert_array_equal(fresh.read(np.array([[1, row]])), stored[1][[row]])


def test_rows_that_swapped_places_are_noticed(parts, stored, tmp_path):
    content = part_path(tmp_path).read_bytes()
    size = parts._dtype.itemsize
    part_path(tmp_path).write_bytes(
        content[: -2 * size] + content[-size:] + content[-2 * size : -size]
    )
    fresh = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
    assert fresh.damaged_rows(1, 7).tolist() == [5, 6]


def test_part_in_another_s_place_is_noticed(parts, stored, tmp_path):
    part_path(tmp_path, 30).replace(part_path(tmp_path, 1))
    fresh = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
    assert fresh.damaged_rows(1, 7).tolist() == list(range(7))
    with pytest.raises(ValueError, match=r"part-00000001.npy is damaged at row 0"):
        fresh.read(np.array([[1, 0]]))


def test_all_rows_that_a_part_lacks_are_damaged(parts, stored, tmp_path):
    assert parts.damaged_rows(1, 7).tolist() == []
    assert parts.damaged_rows(1, 9).tolist() == [7, 8]
    assert parts.damaged_rows(5, 3).tolist() == [0, 1, 2]  # there is no such part
    part_path(tmp_path, 30).write_bytes(b"damaged")
    fresh = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
    assert fresh.damaged_rows(30, 12).tolist() == list(range(12))


def test_open_part_is_read_even_when_it_is_deleted(parts, stored, tmp_path):
    parts.open(np.array([1, 30, 1]))
    part_path(tmp_path, 30).unlink()
    np.testing.assert_array_equal(parts.read_run(30, 0, 12), stored[30])
    with pytest.raises(ValueError, match=r"part-00000009.npy is missing or damaged"):
        parts.open(np.array([9]))


def test_damaged_header_is_refused(parts, stored, tmp_path):
    content = part_path(tmp_path).read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(300):  # each is another kind of nonsense to numpy's parser
        damaged = bytearray(content)
        for position in rng.integers(0, 60, size=3):
            damaged[position] = rng.integers(256)
        part_path(tmp_path).write_bytes(damaged)
        fresh = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
        try:
            fresh.read(np.array([[1, 0]]))
        except ValueError as error:
            assert "part-00000001.npy is" in str(error)


class Bomb:
    """Unpickling it leaves a trace."""

    trace = None

    def __reduce__(self):
        return (exec, (f"open({str(Bomb.trace)!r}, 'w').close()",))


@pytest.mark.parametrize("how", ["npy", "pickle", "npz"])
def test_pickle_is_refused_without_being_unpickled(parts, tmp_path, how):
    Bomb.trace = tmp_path / "exploded"
    bomb = np.array([[Bomb()] * D], dtype=object)
    (tmp_path / "embeddings").mkdir()
    with part_path(tmp_path).open("wb") as file:
        if how == "npy":
            np.save(file, bomb, allow_pickle=True)
        elif how == "npz":
            np.savez(file, bomb=bomb)
        else:
            bomb.dump(file)
    with pytest.raises(ValueError, match=r"part-00000001.npy is (missing or )?damaged"):
        parts.read(np.array([[1, 0]]))
    assert not Bomb.trace.exists()
    # The bomb is live: with leave to unpickle, it does go off.
    loaded = np.load(part_path(tmp_path), allow_pickle=True)
    if how == "npz":
        loaded["bomb"]
    assert Bomb.trace.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, D), np.float16),
        np.zeros((3, D), np.float32),
        np.zeros((3, D + 1), np.float16),
        np.zeros((3, D, 1), np.float16),
        np.zeros(D, np.float16),
        np.float16(0),
    ],
)
def test_array_of_another_type_or_shape_is_refused(parts, tmp_path, array):
    (tmp_path / "embeddings").mkdir()
    np.save(part_path(tmp_path), array)
    with pytest.raises(ValueError, match=r"part-00000001.npy is damaged"):
        parts.read(np.array([[1, 0]]))


def test_keep_only_deletes_other_parts(parts, stored, tmp_path):
    parts.keep_only({2, 30, 99})
    assert names(tmp_path) == ["part-00000002.npy", "part-00000030.npy"]
    np.testing.assert_array_equal(parts.read(np.array([[2, 0]])), stored[2])
    with pytest.raises(ValueError, match="missing"):
        parts.read(np.array([[1, 0]]))


def test_keep_only_deletes_what_a_killed_run_left_half_written(parts, stored, tmp_path):
    (tmp_path / "embeddings" / "part-00000031.npy.4242.tmp").write_bytes(b"half")
    parts.keep_only(set(stored))
    assert names(tmp_path) == [part_path(tmp_path, part).name for part in stored]


def test_keep_only_before_anything_was_written(parts):
    parts.keep_only(set())


def test_part_is_never_written_over(parts, stored):
    with pytest.raises(AssertionError):
        parts.append(np.zeros((2, D), np.float32), part=30)
    assert parts.num_rows(30) == 12


def test_each_row_is_checked_when_it_is_first_read(parts, stored, monkeypatch):
    checked = []

    def checksums(rows, parts, numbers):
        checked.extend(zip(parts.tolist(), numbers.tolist(), strict=True))
        return rows["checksum"]

    monkeypatch.setattr(embeddings, "_checksums", checksums)
    parts.read(np.array([[1, 3], [30, 2]]))
    parts.read(np.array([[1, 4], [1, 3], [30, 2]]))
    assert checked == [(1, 3), (30, 2), (1, 4)]


def test_row_that_was_damaged_after_it_was_read_is_noticed_when_opened_again(
    parts, stored, tmp_path
):
    assert len(parts.read(np.array([[1, 6]]))) == 1
    path = part_path(tmp_path)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the last embedding
    path.write_bytes(content)
    again = EmbeddingParts(tmp_path / "embeddings", embedding_dim=D)
    with pytest.raises(ValueError, match="is damaged at row 6"):
        again.read(np.array([[1, 6]]))
