"""The files of a lexical index, see `indexing.lexical.index`: their names, checksums and table, and
a folder for tantivy to work in.
"""

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

from reelseek.indexing.store.manifest import LEVELS, LexicalInfo
from reelseek.indexing.vectors.shard import file_checksum

# One row a video, ascending: its id, and a checksum of all that its documents were made of.
TABLE_DTYPE = np.dtype([("video", "<i8"), ("checksum", "<u4")])
TABLE_NAME = "table.npy"

_META = "meta.json"  # by which tantivy knows its files


def level_files(info: LexicalInfo, level: str) -> dict[str, str]:
    """The files of one of the two indexes: tantivy's name of each, and the name in the folder."""
    start = f"{level}."
    return {name.removeprefix(start): name for name in info.files if name.startswith(start)}


def check_files(folder: Path, info: LexicalInfo) -> Path:
    """The folder of a lexical index, all of whose files are what was written.

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
    """The table of the lexical index in this folder.

    Raises:
        ValueError: it is damaged.
    """
    try:
        table = np.load(path / TABLE_NAME, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy's parser of headers raises of many kinds
        raise ValueError(damaged(path / TABLE_NAME)) from error
    if not isinstance(table, np.ndarray) or table.dtype != TABLE_DTYPE or table.ndim != 1:
        raise ValueError(damaged(path / TABLE_NAME))
    return table


@contextmanager
def linked(path: Path, files: dict[str, str]) -> Iterator[Path]:
    """A folder for tantivy to work in, with links to these files: it makes locks and temporary
    files beside what it opens, which are to be no part of an index, and the disk may be read-only.

    Args:
        files: names in the new folder, and of the files in `path`.

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
            except OSError:  # where only some may make links
                shutil.copyfile(target, scratch / name)
        # Of these alone tantivy deletes what it no longer needs.
        (scratch / ".managed.json").write_text(json.dumps(list(files)))
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def damaged(path: Path) -> str:
    return f"{path} is damaged: run python -m indexing.repair index=DIR to rebuild it"
