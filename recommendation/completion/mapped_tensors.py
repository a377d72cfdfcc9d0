"""A safetensors file -> arrays that lie in the file, which the processes of a machine share."""

import json
import mmap
from pathlib import Path

import numpy as np

_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "U32": np.uint32, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_SIZE_BYTES = 8  # of the number that says how long the header is


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Returns read-only arrays by name; the file may be replaced meanwhile, not changed.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no safetensors file, or damaged.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        header_bytes = int.from_bytes(content[:_SIZE_BYTES], "little")
        first = _SIZE_BYTES + header_bytes
        if first > len(content):
            raise ValueError("its header is cut off")
        header = json.loads(content[_SIZE_BYTES:first])
        return {
            name: _array(content, entry, first)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _array(content: mmap.mmap, entry: dict, first: int) -> np.ndarray:
    start, end = (first + offset for offset in entry["data_offsets"])
    dtype, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    if not first <= start <= end <= len(content) or end - start != count * dtype.itemsize:
        raise ValueError("an array does not fit its place")
    return np.frombuffer(content, dtype, count=count, offset=start).reshape(shape)
