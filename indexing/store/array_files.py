"""Arrays in files as NumPy writes them (`.npy`)."""

from pathlib import Path

import numpy as np

_MAX_TRIES = 20


def read_array(path: Path, *, mapped: bool = False) -> np.ndarray:
    """Reads an array, never a pickle.

    Args:
        mapped: into memory, for reading only, rather than read.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or something else.
    """
    for tried in range(1, _MAX_TRIES + 1):
        try:
            array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        except FileNotFoundError:
            raise
        except SystemError as error:
            # Python 3.11.0 to 3.11.7 and 3.12.0 to 3.12.1 raise it of a sound header when two
            # threads parse at once (github.com/python/cpython/issues/106905).
            if tried == _MAX_TRIES:
                raise ValueError(f"{path} cannot be read: {error}") from error
        except Exception as error:  # NumPy's parser of headers raises errors of many types
            raise ValueError(f"{path} is damaged: {error}") from error
        else:
            break
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is damaged: it holds no array")
    return array
