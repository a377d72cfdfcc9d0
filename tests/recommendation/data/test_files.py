import numpy as np
import pytest

from reelseek.recommendation.data.files import read_interactions, read_titles
from reelseek.recommendation.data.sequences import Vocabulary


def write(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, **options):
    return read_interactions("train", path, items=Vocabulary(), **options)


def test_lines_of_any_blanks_and_ids_of_any_text(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbfann\ta b  \xe7\x8c\xab\r\n\n \n7\tb \xff\x80 'q\"\n")
    found = read(path)
    assert found.users == ("ann", "7")
    assert found.items.ids() == ("a", "b", "猫", "\udcff\udc80", "'q\"")
    assert [history.tolist() for history in found.histories()] == [[0, 1, 2], [1, 3, 4]]
    assert found.is_ordered
    assert not read(path, is_ordered=False).is_ordered


def test_files_of_questions_may_have_users_without_items(tmp_path):
    path = write(tmp_path, "a 1\nb\n")
    assert read(path, may_lack_items=True).lengths.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "train=PATH: is empty; each line is like 'user item item'"),
        ("\n \n", "train=PATH: holds no interactions"),
        ("a 1\nb \n", "train=PATH, line 2: user 'b' has no items; each line is like 'user item"),
        ("a 1\nb 2\na 3", "train=PATH, line 3: user 'a' stands on line 1 too; put all items of"),
    ],
)
def test_malformed_lines_are_named(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read(path)
    assert str(caught.value).startswith(message.replace("PATH", str(path)))


def test_matrix_of_pairs(tmp_path):
    path = tmp_path / "pairs.npz"
    np.savez(path, row=[2, 0, 0], col=[4, 1, 0], shape=[3, 5])
    found = read(path)
    assert found.users == ("0", "1", "2")
    assert found.items.ids() == tuple("01234")  # columns are items, also those that nobody chose
    assert [history.tolist() for history in found.histories()] == [[1, 0], [], [4]]
    assert not found.is_ordered


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"row": [0], "col": [0]}, "lacks shape: must hold row, col and shape"),
        ({"row": [0], "col": [0, 1], "shape": [2, 2]}, "row has 1 numbers and col 2"),
        ({"row": [0.5], "col": [0], "shape": [2, 2]}, "row is float64 of shape (1,): must be"),
        ({"row": [[0]], "col": [0], "shape": [2, 2]}, "row is int64 of shape (1, 1): must be"),
        ({"row": [0], "col": [0], "shape": [2]}, "shape is [2]: must be users and items"),
        ({"row": [0], "col": [0], "shape": [2, 10**12]}, "shape is [2, 1000000000000]: must"),
        ({"row": [2], "col": [0], "shape": [2, 2]}, "row goes from 2 to 2: must lie in 0 to 1"),
        ({"row": [0], "col": [-1], "shape": [2, 2]}, "col goes from -1 to -1: must lie in 0"),
        ({"row": [], "col": [], "shape": [2, 2]}, "row is float64 of shape (0,): must be"),
        ({"row": np.zeros(0, int), "col": np.zeros(0, int), "shape": [2, 2]}, "holds no inter"),
        ({"row": np.array([{}]), "col": [0], "shape": [2, 2]}, "cannot be read without pickle"),
    ],
)
def test_malformed_matrices_are_named(tmp_path, arrays, message):
    path = tmp_path / "pairs.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError) as caught:
        read(path)
    assert str(caught.value).startswith(f"train={path}: {message}")


def test_what_is_no_matrix_is_named(tmp_path):
    path = tmp_path / "pairs.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"pairs\.npz: is no \.npz file"):
        read(path)
    whole = tmp_path / "whole.npz"
    np.savez(whole, row=[0], col=[0], shape=[1, 1])
    path.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"pairs\.npz: is no \.npz file"):
        read(path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match="is not a file"):
        read(tmp_path)


def test_titles(tmp_path):
    path = write(tmp_path, '\ufeffitem,title\n1,"a, ""b""\nc"\n\n猫,\n')
    assert read_titles("titles", path) == {"1": 'a, "b"\nc', "猫": ""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,a\n", "titles=PATH: its first line is '1,a': must be item,title"),
        ("item,title\n", "titles=PATH: holds no titles below its header"),
        ("item,title\n1\n", "titles=PATH, line 2: has 1 fields, the header 2; quote titles"),
        (b"item,title\n1,\xff\n", "titles=PATH: is not UTF-8; save it as UTF-8"),
    ],
)
def test_malformed_titles_are_named(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(ValueError) as caught:
        read_titles("titles", path)
    assert str(caught.value).startswith(message.replace("PATH", str(path)))
