"""The files of a model in a Redis server, for servers on other machines than the learner's.

Keys:

    reelseek:model              a hash: epoch, of the last lease; and a field for each whole file
    reelseek:model:NAME         a list: the parts of a file, so that no write holds the server up
    reelseek:model_status       what the learner says of itself; expires where it says nothing more

Each write names its epoch, and a script refuses it where a later one has begun.
"""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from reelseek.recommendation.learning.files import EPOCH, EpochEnded
from reelseek.recommendation.redis_server import RedisServer, parse_address

__all__ = ["RedisFiles", "published_files"]

_STATE = "reelseek:model"
_STATUS = "reelseek:model_status"
_PART_BYTES = 1 << 20
_PARTS_AT_ONCE = 8

_BEGIN = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch < tonumber(ARGV[1]) then
  epoch = tonumber(ARGV[1])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
end
return epoch
"""

_FENCE = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch ~= tonumber(ARGV[1]) then return epoch end
"""

_WRITE_PART = (
    _FENCE
    + """
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('EXPIRE', KEYS[2], 3600)
if ARGV[3] ~= '' then
  redis.call('RENAME', KEYS[2], KEYS[3])
  redis.call('PERSIST', KEYS[3])
  redis.call('HSET', KEYS[1], ARGV[3], '')
end
return -1
"""
)

_DELETE = (
    _FENCE
    + """
for i = 2, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
  redis.call('UNLINK', KEYS[i])
end
return -1
"""
)

_WRITE_STATUS = (
    _FENCE
    + """
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return -1
"""
)

_READ_STATUS = "return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}"


def published_files(option: str, place: str) -> "RedisFiles":
    """Connects to the server that an option names, and checks that it keeps what it acknowledges.

    Raises:
        ValueError: it is no such server.
    """
    server = RedisServer(parse_address(option, place))
    server.check(option)
    return RedisFiles(server)


class RedisFiles:
    """Reads and writes the files; threads may share it.

    Raises:
        RedisUnavailable: by all methods, where the server or its replica does not answer.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def close(self) -> None:
        self._server.close()

    def names(self) -> list[str]:
        return [name.decode() for name in self._server.call("HKEYS", _STATE)]

    def read(self, name: str) -> bytes:
        if name == EPOCH:
            found = self._server.call("HGET", _STATE, EPOCH)
            if found is None:
                raise FileNotFoundError(self.shown(name))
            return bytes(found)
        parts: list[bytes] = []
        while True:
            first, last = len(parts), len(parts) + _PARTS_AT_ONCE - 1
            found = self._server.call("LRANGE", _key(name), first, last)
            parts += found
            if len(found) < _PARTS_AT_ONCE:
                break
        if not parts:
            raise FileNotFoundError(self.shown(name))
        return b"".join(parts)

    def begin(self, epoch: int) -> None:
        """Refuses from now on what earlier epochs write.

        Raises:
            EpochEnded: a later one has begun already.
        """
        self._check(epoch, self._write(_BEGIN, _STATE, arguments=(epoch,)), is_equal=epoch)

    def write(self, name: str, content: bytes, *, epoch: int) -> None:
        """Writes a file, which appears whole; a replica has it when this returns.

        Raises:
            EpochEnded: a later epoch has begun; nothing is written.
        """
        key = f"{_key(name)}:{uuid4().hex}"
        for start in range(0, max(1, len(content)), _PART_BYTES):
            is_last = start + _PART_BYTES >= len(content)
            part = content[start : start + _PART_BYTES]
            arguments = (epoch, part, name if is_last else "")
            self._check(
                epoch, self._write(_WRITE_PART, _STATE, key, _key(name), arguments=arguments)
            )

    def delete(self, names: Iterable[str], *, epoch: int) -> None:
        """Deletes files, whether they are there or not.

        Raises:
            EpochEnded: a later epoch has begun; nothing is deleted.
        """
        deleted = list(names)
        if deleted:
            keys = (_STATE, *map(_key, deleted))
            self._check(epoch, self._write(_DELETE, *keys, arguments=(epoch, *deleted)))

    def write_status(self, content: bytes, *, epoch: int, kept_seconds: float) -> None:
        """Replaces what the learner says of itself; waits for no replica, as it soon says more.

        Args:
            kept_seconds: after which it is gone, unless it is replaced.

        Raises:
            EpochEnded: a later epoch has begun; nothing is written.
        """
        arguments = epoch, content, round(1000 * kept_seconds)
        self._check(
            epoch, int(self._server.call("EVAL", _WRITE_STATUS, 2, _STATE, _STATUS, *arguments))
        )

    def read_status(self) -> tuple[bytes, float] | None:
        """Returns what the learner said last, and for how many seconds it still counts; None where
        that is gone."""
        content, left_ms = self._server.call("EVAL", _READ_STATUS, 1, _STATUS)
        return None if content is None else (bytes(content), left_ms / 1000)

    def shown(self, name: str) -> str:
        return f"{self._server.address} {name}"

    def _write(self, script: str, *keys: str, arguments: tuple[Any, ...]) -> int:
        command = "EVAL", script, len(keys), *keys, *arguments
        return int(self._server.call_replicated(*command))

    def _check(self, epoch: int, found: int, *, is_equal: int = -1) -> None:
        if found != is_equal:
            raise EpochEnded(
                f"{self._server.address}: epoch {found} has begun, this one is {epoch}"
            )


def _key(name: str) -> str:
    return f"{_STATE}:{name}"
