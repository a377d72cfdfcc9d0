"""The log of events in a Redis server: a stream, which several machines write and read.

Keys, all of which a script changes at once:

    reelseek:events          the stream; an entry's id is its log position, such as 17-0
    reelseek:event_ids       a hash of the ids of the events in it
    reelseek:deletions       a sorted set of the positions of deletions
    reelseek:events_state    last: the last position; dropped: the last that retention has dropped;
                             settled: up to which readers have been told; rewrites; format

An event is acknowledged once the master has it on its disk and a replica has it. Readers are told
of no event before a replica has it: what a master alone has is lost when it fails, and its
positions are then given to other events.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import msgspec

from reelseek.recommendation.events.rows import COLUMNS, Row, deletion_row
from reelseek.recommendation.events.store import EventsUnavailable, EventsUnreachable
from reelseek.recommendation.redis_server import RedisRefused, RedisServer, RedisUnavailable

__all__ = ["RedisEventStore", "RedisEvents"]

_FORMAT = 1
_STREAM, _IDS = "reelseek:events", "reelseek:event_ids"
_DELETIONS, _STATE = "reelseek:deletions", "reelseek:events_state"
_COPIED_AT_ONCE = 500  # events, for which writers wait
_REWRITE_SECONDS = 600.0
_RETRY_SECONDS = 1.0  # after which readers ask again for what no replica had

# The columns that scripts look at have fields of their own in an entry; "" stands for none.
_APART = ("event_id", "user", "session", "received_seconds")
_EVENT_ID, _USER, _SESSION, _RECEIVED = (COLUMNS.index(name) for name in _APART)
_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode

_APPEND = """
local last = tonumber(redis.call('HGET', KEYS[3], 'last') or '0')
local is_new = {}
for i = 1, #ARGV, 5 do
  is_new[#is_new + 1] = redis.call('HSETNX', KEYS[2], ARGV[i], '')
  if is_new[#is_new] == 1 then
    last = last + 1
    redis.call('XADD', KEYS[1], string.format('%.0f-0', last), 'id', ARGV[i], 'user', ARGV[i + 1],
      'session', ARGV[i + 2], 'received', ARGV[i + 3], 'row', ARGV[i + 4])
  end
end
redis.call('HSET', KEYS[3], 'last', string.format('%.0f', last))
return is_new
"""

# Marks what this reader knows to be settled, and writes where there is more, so that it can wait
# for a replica to confirm that write and all before it.
_READ = """
local known = tonumber(ARGV[3])
local state = redis.call('HMGET', KEYS[2], 'last', 'settled', 'dropped')
local last, settled = tonumber(state[1] or '0'), tonumber(state[2] or '0')
if last > math.max(known, settled) then
  redis.call('HINCRBY', KEYS[2], 'reads', 1)
end
if known > settled and known <= last then
  redis.call('HSET', KEYS[2], 'settled', ARGV[3])
end
local found = {}
if tonumber(ARGV[2]) > 0 then
  found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1] .. '-0', '+', 'COUNT', ARGV[2])
end
return {last, settled, tonumber(state[3] or '0'), found}
"""

_DROP = """
local num = 0
local found = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[2])
local least = 0
if ARGV[3] == '1' then
  least = math.max(math.floor(#found / 10), math.min(1, #found))
end
while num < #found and (num < least or tonumber(found[num + 1][2][8]) < tonumber(ARGV[1])) do
  num = num + 1
  redis.call('HDEL', KEYS[2], found[num][2][2])
end
if num > 0 then
  local last = tonumber(string.match(found[num][1], '%d+'))
  redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%.0f-0', last + 1))
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', last)
  redis.call('HSET', KEYS[3], 'dropped', string.format('%.0f', last))
end
return num
"""

# Copies the events that are not of a user; returns the last id, the number seen, and the ids of
# those of the user.
_COPY = """
local found = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local last, deleted = ARGV[1], {}
for _, entry in ipairs(found) do
  local fields = entry[2]
  if fields[4] == ARGV[3] or fields[6] == ARGV[3] then
    deleted[#deleted + 1] = fields[2]
  else
    redis.call('XADD', KEYS[2], entry[1], unpack(fields))
  end
  last = entry[1]
end
redis.call('EXPIRE', KEYS[2], 3600)
return {last, #found, deleted}
"""

# Copies what came meanwhile, adds the deletion, and puts the copy in place of the stream: Redis
# only marks an entry that it deletes, and its bytes would stay in memory and in files.
_REPLACE = """
if (redis.call('HGET', KEYS[3], 'rewrites') or '0') ~= ARGV[1] then return -1 end
local deleted = {}
for i = 9, #ARGV do deleted[#deleted + 1] = ARGV[i] end
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+')) do
  local fields = entry[2]
  if fields[4] == ARGV[3] or fields[6] == ARGV[3] then
    deleted[#deleted + 1] = fields[2]
  else
    redis.call('XADD', KEYS[5], entry[1], unpack(fields))
  end
end
local state = redis.call('HMGET', KEYS[3], 'last', 'dropped')
local last = tonumber(state[1] or '0') + 1
local target = KEYS[1]
if #deleted > 0 then target = KEYS[5] end
redis.call('XADD', target, string.format('%.0f-0', last), 'id', ARGV[4], 'user', ARGV[5],
  'session', ARGV[6], 'received', ARGV[7], 'row', ARGV[8])
redis.call('HSET', KEYS[2], ARGV[4], '')
redis.call('ZADD', KEYS[4], last, string.format('%.0f', last))
redis.call('HSET', KEYS[3], 'last', string.format('%.0f', last))
if #deleted == 0 then
  redis.call('UNLINK', KEYS[5])
  return 0
end
redis.call('XTRIM', KEYS[5], 'MINID', '=', string.format('%.0f-0', tonumber(state[2] or '0') + 1))
redis.call('RENAME', KEYS[5], KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('HINCRBY', KEYS[3], 'rewrites', 1)
for _, id in ipairs(deleted) do redis.call('HDEL', KEYS[2], id) end
return #deleted
"""


class RedisEvents:
    """Where a log is kept; see `EventLog`."""

    def __init__(self, server: RedisServer) -> None:
        self._address = server.address

    def open(self) -> "RedisEventStore":
        """Returns a store with a connection of its own."""
        return RedisEventStore(RedisServer(self._address))


class RedisEventStore:
    """Writes and reads the events; threads may share it.

    Raises:
        EventsUnavailable: the server cannot be reached, or could lose what it says is stored.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._settled = 0  # up to here a replica has the events
        self._ask_at = 0.0  # on the clock of `time.monotonic`
        self._lock = threading.Lock()  # of the two above
        try:
            server.check("events")
            self._check_format()
        except ValueError as error:
            server.close()
            raise EventsUnreachable(str(error)) from error
        except EventsUnavailable:
            server.close()
            raise

    def close(self) -> None:
        self._server.close()

    def append(self, batches: Sequence[Sequence[Row]]) -> list[int]:
        """Stores all batches at once; the master has them on its disk, and a replica has them, when
        this returns.

        Returns the number of events of each batch that were new.

        Raises:
            EventsUnavailable: nothing is acknowledged; sent again, nothing is stored twice.
        """
        rows = [row for batch in batches for row in batch]
        arguments = [value for row in rows for value in _to_fields(row)]
        with _named_errors():
            is_new = iter(self._write(_APPEND, _STREAM, _IDS, _STATE, arguments=arguments))
        return [sum(next(is_new) for _ in batch) for batch in batches]

    def rows(self, *, after: int, limit: int) -> list[Row]:
        """Returns rows of `log_position` and `COLUMNS`, in order."""
        if limit < 1:
            return []
        settled, _, found = self._read(after, limit)
        positions = [int(entry_id.split(b"-")[0]) for entry_id, _ in found]
        return [
            (position, *_from_fields(fields[1::2]))
            for position, (_, fields) in zip(positions, found, strict=True)
            if position <= settled
        ]

    def num_deletions(self, *, after: int) -> int:
        """Returns how many users were deleted after a position."""
        with _named_errors():
            return int(self._server.call("ZCOUNT", _DELETIONS, f"({after}", "+inf"))

    def bounds(self) -> tuple[int, int]:
        """Returns the last position that retention has dropped, and the last that was given; 0
        where there is none."""
        settled, dropped, _ = self._read(0, 0)
        return dropped, settled

    def delete_user(self, user: str, *, now_seconds: float) -> int:
        """Deletes the events that have this pseudonym, as user or as session, and appends a
        `Deletion`; returns their number.

        The master's file is written anew; replicas write theirs anew when they have grown.

        Raises:
            EventsUnavailable: something of them is left; call it again.
        """
        deletion = _to_fields(deletion_row(user, now_seconds))
        num_deleted = -1
        with _named_errors():
            while num_deleted < 0:
                rewrites = self._server.call("HGET", _STATE, "rewrites") or b"0"
                copy = f"{_STREAM}:{uuid4().hex}"
                last, ids = self._copy_without(user, copy)
                num_deleted = self._write(
                    *(_REPLACE, _STREAM, _IDS, _STATE, _DELETIONS, copy),
                    arguments=[rewrites, last, user, *deletion, *ids],
                )
                if num_deleted < 0:
                    self._server.call("UNLINK", copy)
            if num_deleted:
                self._rewrite_file()
        return int(num_deleted)

    def wipe(self) -> None:
        """Does nothing: a deletion that was cut off has not begun to delete."""

    def checkpoint(self) -> None:
        """Does nothing: Redis writes its file anew when it has grown."""

    def drop_oldest(self, *, before_seconds: float, max_bytes: float, limit: int) -> int:
        """Deletes events that arrived before a time, or are too many; the oldest first.

        Args:
            before_seconds: Unix time by the server's clock.
            max_bytes: of the server's memory that the events may take, with their ids.
            limit: the most to delete now, as writers wait meanwhile.

        Returns the number of deleted events.
        """
        with _named_errors():
            used = sum(self._server.call("MEMORY", "USAGE", key) or 0 for key in (_STREAM, _IDS))
            arguments = [before_seconds, limit, int(used > max_bytes)]
            keys = _STREAM, _IDS, _STATE, _DELETIONS
            return int(self._server.call("EVAL", _DROP, len(keys), *keys, *arguments))

    def _write(self, script: str, *keys: str, arguments: Sequence[Any]) -> Any:
        return self._server.call_replicated("EVAL", script, len(keys), *keys, *arguments)

    def _check_format(self) -> None:
        with _named_errors():
            found = int(self._server.call("HGET", _STATE, "format") or 0)
            if not found:
                self._server.call("HSETNX", _STATE, "format", _FORMAT)
        if found > _FORMAT:
            raise EventsUnavailable(
                f"{self._server.address} has format {found}, this version reads {_FORMAT}; use a "
                "newer one"
            )

    def _read(self, after: int, limit: int) -> tuple[int, int, list[Any]]:
        """Returns the position up to which events are settled, the last that was dropped, and
        entries after a position, settled or not."""
        with self._lock, _named_errors():
            known, is_time = self._settled, time.monotonic() >= self._ask_at
            (last, settled, dropped, found), is_replicated = self._server.call_confirmed(
                *("EVAL", _READ, 2, _STREAM, _STATE, after, limit, known),
                is_needed=lambda answer: is_time and answer[0] > max(known, answer[1]),
            )
            if last < known:
                raise EventsUnreachable(
                    f"{self._server.address}: has {last} events where there were {known}; it is "
                    "not the master, or was restored from an older copy"
                )
            self._settled = max(known, settled)
            if is_replicated:
                self._settled = last
            elif is_time and last > self._settled:
                self._ask_at = time.monotonic() + _RETRY_SECONDS
            return self._settled, dropped, found

    def _copy_without(self, user: str, copy: str) -> tuple[bytes, list[bytes]]:
        last, ids, num_seen = b"0-0", [], _COPIED_AT_ONCE
        while num_seen == _COPIED_AT_ONCE:
            arguments = last, _COPIED_AT_ONCE, user
            last, num_seen, deleted = self._server.call("EVAL", _COPY, 2, _STREAM, copy, *arguments)
            ids += deleted
        return last, ids

    def _rewrite_file(self) -> None:
        """Has the master write a file without what was deleted.

        Raises:
            RedisUnavailable: it has not done so in time.
        """
        deadline = time.monotonic() + _REWRITE_SECONDS
        is_begun = False
        while time.monotonic() < deadline:
            info = self._server.persistence()
            is_busy = info["aof_rewrite_in_progress"] != "0" or info["aof_rewrite_scheduled"] != "0"
            if not is_busy and is_begun:
                if info["aof_last_bgrewrite_status"] == "ok":
                    return
                raise RedisRefused(f"{self._server.address}: its file cannot be written anew")
            if not is_busy:  # what was begun before may have seen the events
                self._server.call("BGREWRITEAOF")
                is_begun = True
            time.sleep(0.02)
        raise RedisUnavailable(f"{self._server.address}: its file is still being written anew")


def _to_fields(row: Row) -> list[Any]:
    rest = list(row)
    for column in (_EVENT_ID, _USER, _SESSION, _RECEIVED):
        rest[column] = None
    return [
        row[_EVENT_ID],
        row[_USER] or "",
        row[_SESSION] or "",
        repr(float(row[_RECEIVED])),
        _encode(rest),
    ]


def _from_fields(fields: Sequence[bytes]) -> list[Any]:
    event_id, user, session, received, rest = fields
    row = _decode(rest)
    row[_EVENT_ID], row[_USER] = event_id.decode(), user.decode() or None
    row[_SESSION], row[_RECEIVED] = session.decode() or None, float(received)
    return list(row)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except RedisRefused as error:
        raise EventsUnavailable(str(error)) from error
    except RedisUnavailable as error:
        raise EventsUnreachable(str(error)) from error
