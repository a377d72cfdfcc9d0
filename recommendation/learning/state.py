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
from reelseek.recommendation.learning.row_table import prepared_rows, stored_array

__all__ = ["DamagedState", "decode", "encode", "fingerprint", "prepare", "restore", "take_state"]

_MAGIC = b"RSLEARN2"
_HEADER = struct.Struct("<8s32s")
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
    return {
        **{name: getattr(model, name) for name in (*_NUMBERS, *_WHOLE_ARRAYS)},
        "table": model.take_rows(only_changed=only_changed),
        "tastes": model.tastes.take_rows(only_changed=only_changed),
    }


def prepare(state: State) -> State:
    """Returns a state with its arrays and keys made, so that `restore` takes less time."""
    if "is_prepared" in state:
        return state
    return {
        **state,
        **{name: stored_array(state[name]) for name in _WHOLE_ARRAYS},
        **{name: prepared_rows(state[name]) for name in ("table", "tastes")},
        "is_prepared": True,
    }


def restore(model: OnlineModel, state: State) -> None:
    """Gives a model a state: a whole one where the model is new, or the changes that followed the
    state it has.

    Args:
        state: as `decode` or `prepare` returns it.
    """
    state = prepare(state)
    model.restore_rows(state["table"])
    model.tastes.restore_rows(state["tastes"])
    for name in _WHOLE_ARRAYS:
        setattr(model, name, state[name])
    for name in _NUMBERS:
        setattr(model, name, state[name])


def _encode_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": value.shape, "data": value.tobytes()}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value)} cannot be stored")
