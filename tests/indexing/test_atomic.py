import pytest

from indexing.atomic import publish_file, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_has_the_new_content_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_write_that_breaks_off_leaves_the_old_content_and_no_temporary_file(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def write(temporary):
        temporary.write_bytes(b"half of the ne")
        raise error

    with pytest.raises(error):
        publish_file(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_path_is_untouched_while_the_new_content_is_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    seen = []

    def write(temporary):
        temporary.write_bytes(b"new")
        seen.append(path.read_bytes())

    publish_file(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"
