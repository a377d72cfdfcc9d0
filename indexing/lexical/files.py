"""The files of a lexical index, see `indexing.lexical.index`: names, checksums, the table, and a
working folder for tantivy."""

import errno
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from reelseek.indexing.store.array_files import read_array
from reelseek.indexing.store.manifest import LEVELS, LexicalInfo
from reelseek.indexing.vectors.shard import file_checksum

# One row a video, ascending: its id, and a checksum of the inputs to its documents.
TABLE_DTYPE = np.dtype([("video", "<i8"), ("checksum", "<u4")])
TABLE_NAME = "table.npy"

_META = "meta.json"  # by which tantivy knows its files


def level_files(info: LexicalInfo, level: str) -> dict[str, str]:
    """Returns the files of one of the two indexes: tantivy's names, and those in the folder."""
    start = f"{level}."
    return {name.removeprefix(start): name for name in info.files if name.startswith(start)}


def check_files(folder: Path, info: LexicalInfo) -> Path:
    """Checks the checksum of every file; returns the folder of the lexical index.

    Raises:
        FileNotFoundError: one is gone, as when a writer has replaced it.
        ValueError: one is damaged, or is no plain file.
    """
    path = folder / info.name
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise ValueError(damaged(path))
    needed = {TABLE_NAME, *(f"{level}.{_META}" for level in LEVELS)}
    if not needed <= set(info.files):
        raise ValueError(damaged(path))
    for name, checksum in info.files.items():
        file = path / name
        if not stat.S_ISREG(os.lstat(file).st_mode) or file_checksum(file) != checksum:
            raise ValueError(damaged(file))
    return path


def read_table(path: Path) -> np.ndarray:
    """Reads the table of the lexical index in this folder.

    Raises:
        ValueError: it is damaged.
    """
    try:
        table = read_array(path / TABLE_NAME)
    except ValueError as error:
        raise ValueError(damaged(path / TABLE_NAME)) from error
    if table.dtype != TABLE_DTYPE or table.ndim != 1:
        raise ValueError(damaged(path / TABLE_NAME))
    return table


@contextmanager
def linked(path: Path, files: dict[str, str]) -> Iterator[Path]:
    """Makes a temporary folder for tantivy with links to these files: it writes locks and temporary
    files beside those it opens, which do not belong in an index, and the disk may be read-only.

    Args:
        files: names in the new folder -> names in `path`.

    Raises:
        OSError: there is no folder for temporary files; FileNotFoundError: a file is gone.
    """
    try:
        scratch = Path(tempfile.mkdtemp(prefix="reelseek-words-"))
    except FileNotFoundError as error:  # as if a file of the index were gone
        raise OSError(errno.EROFS, "no folder for temporary files: set TMPDIR") from error
    try:
        for name, source in files.items():
            target = (path / source).absolute()
            try:
                (scratch / name).symlink_to(target)
            except OSError:  # without the right to make links
                shutil.copyfile(target, scratch / name)
        # tantivy deletes files that it no longer needs, of these only.
        (scratch / ".managed.json").write_text(json.dumps(list(files)))
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def damaged(path: Path) -> str:
    return f"{path} is damaged: run reelseek repair --index DIR to rebuild it"
