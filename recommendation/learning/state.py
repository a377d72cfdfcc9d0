"""The state of a model <-> bytes: all of it, or the rows that changed since it was last taken.

Bytes begin with a magic number and the SHA-256 of what follows, which is MessagePack: values, and
arrays as they are in memory. What is read back gives the same predictions to the last bit.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
import numpy as np

from reelseek.recommendation.learning.model import OnlineModel

__all__ = ["DamagedState", "decode", "encode", "fingerprint", "prepare", "restore", "take_state"]

_MAGIC = b"RSLEARN2"
_HEADER = struct.Struct("<8s32s")
_ROW_ARRAYS = ("counts", "counted_ms", "row_z", "row_n")
_WHOLE_ARRAYS = ("dense_z", "dense_n", "profile_z", "profile_n")
_NUMBERS = ("clock_ms", "next_expiry_ms", "num_learned")

State = dict[str, Any]


class DamagedState(ValueError):
    """Bytes that are not what was written."""


def encode(state: Mapping[str, Any]) -> bytes:
    payload = msgspec.msgpack.encode(state, enc_hook=_encode_array)
    return _HEADER.pack(_MAGIC, hashlib.sha256(payload).digest()) + payload


def decode(content: bytes) -> State:
    """Reads what `encode` wrote.

    Raises:
        DamagedState: bytes are missing or changed, or are of another format.
    """
    if len(content) < _HEADER.size:
        raise DamagedState("is too short")
    magic, digest = _HEADER.unpack_from(content)
    payload = content[_HEADER.size :]
    if magic != _MAGIC:
        raise DamagedState(
            "has another format; it is of another version of the program. Delete the folder, and "
            "the log is learned again"
        )
    if hashlib.sha256(payload).digest() != digest:
        raise DamagedState("has another checksum than was written")
    return msgspec.msgpack.decode(payload)


def fingerprint(model: OnlineModel) -> str:
    """Returns what tells models apart whose states do not fit each other: settings, counters, the
    history they began with, and the tables of users and videos."""
    digest = hashlib.sha256()
    prior, tables = model.prior, (model.users, model.videos)
    for part in (
        asdict(model.settings),
        [asdict(namespace) for namespace in model.namespaces],
        *(sorted(map(repr, effects.items())) for effects in vars(prior).values()),
        *((table.num_columns, table.num_values) for table in tables),
        *(sorted((repr(k), v.tolist()) for k, v in table.codes.items()) for table in tables),
    ):
        digest.update(repr(part).encode())
    return digest.hexdigest()


def take_state(model: OnlineModel, *, only_changed: bool = False) -> State:
    """Returns the state, to be encoded at once, as arrays may be shared with the model.

    Args:
        only_changed: take only rows that changed since the last call of this function.
    """
    table = model.table
    touched = table.take_touched()
    used = np.arange(table.num_used)
    rows = used[model.is_changed[: len(used)]] if only_changed else used
    state: State = {name: getattr(model, name) for name in (*_NUMBERS, *_WHOLE_ARRAYS)}
    state["rows"] = rows
    state["of_rows"] = {name: getattr(model, name)[rows] for name in _ROW_ARRAYS}
    state["table"] = {
        "size": table.size,
        "num_used": table.num_used,
        "keys": table.keys_of(rows.tolist()),
        "last_ms": table.last_ms[rows],
        "candidates": touched if only_changed else table.candidates(),
        "num_evicted": table.num_evicted,
        "num_expired": table.num_expired,
    }
    state["watches"] = model.watches.take_state(only_changed=only_changed)
    model.is_changed[:] = False
    return state


def prepare(state: State) -> State:
    """Returns a state with its arrays and keys made, so that `restore` takes less time."""
    if "is_prepared" in state:
        return state
    table = {**state["table"]}
    table["keys"] = [_as_key(key) for key in table["keys"]]
    table["candidates"] = [(_as_key(key), count) for key, count in table["candidates"]]
    table["last_ms"] = _array(table["last_ms"])
    return {
        **state,
        **{name: _array(state[name]) for name in _WHOLE_ARRAYS},
        "rows": _array(state["rows"]),
        "of_rows": {name: _array(state["of_rows"][name]) for name in _ROW_ARRAYS},
        "table": table,
        "is_prepared": True,
    }


def restore(model: OnlineModel, state: State) -> None:
    """Gives a model a state: a whole one where the model is new, or the changes that followed the
    state it has.

    Args:
        state: as `decode` or `prepare` returns it.
    """
    state = prepare(state)
    table, found = model.table, state["table"]
    if found["size"] > table.size:
        table.grow(found["size"])
        model.grow()
    rows = state["rows"]
    table.set_rows(rows.tolist(), found["keys"], num_used=found["num_used"])
    table.set_candidates(found["candidates"])
    table.take_touched()
    table.last_ms[rows] = found["last_ms"]
    table.num_evicted, table.num_expired = found["num_evicted"], found["num_expired"]
    for name in _ROW_ARRAYS:
        getattr(model, name)[rows] = state["of_rows"][name]
    for name in _WHOLE_ARRAYS:
        setattr(model, name, state[name])
    for name in _NUMBERS:
        setattr(model, name, state[name])
    model.watches.restore(state["watches"])
    model.is_changed[:] = False


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": value.shape, "data": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} cannot be stored")


def _array(found: Mapping[str, Any]) -> np.ndarray:
    values = np.frombuffer(found["data"], np.dtype(found["dtype"]))
    return values.reshape(found["shape"]).copy()


def _as_key(key: Any) -> Any:
    """Keys are tuples, which MessagePack gives back as lists."""
    return tuple(key) if isinstance(key, list) else key
