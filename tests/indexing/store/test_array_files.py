import ast

import numpy as np
import pytest

from reelseek.indexing.store.array_files import read_array


@pytest.mark.parametrize("mapped", [False, True])
def test_array_is_read_though_another_thread_disturbs_the_parser(tmp_path, monkeypatch, mapped):
    np.save(tmp_path / "a.npy", np.arange(5))
    parse, failures = ast.literal_eval, iter(range(3))

    def disturbed(text):
        if next(failures, None) is not None:
            raise SystemError("AST constructor recursion depth mismatch (before=198, after=51)")
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", disturbed)
    assert read_array(tmp_path / "a.npy", mapped=mapped).tolist() == [0, 1, 2, 3, 4]
    assert next(failures, None) is None


def test_parser_that_stays_disturbed_is_an_error(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(5))

    def broken(text):
        raise SystemError("always")

    monkeypatch.setattr(ast, "literal_eval", broken)
    with pytest.raises(ValueError, match="cannot be read"):
        read_array(tmp_path / "a.npy")


def test_missing_file_and_what_is_no_array_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_array(tmp_path / "none.npy")
    np.savez(tmp_path / "several.npz", a=np.arange(2))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': ")
    (tmp_path / "pickle.npy").touch()
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("several.npz", "cut.npy", "pickle.npy"):
        with pytest.raises(ValueError, match="is damaged"):
            read_array(tmp_path / name)
