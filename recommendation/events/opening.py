"""The option that names a log -> the log: a folder, or a Redis server."""

from pathlib import Path

from reelseek.recommendation.events.log import EventLog, check_folder
from reelseek.recommendation.redis_server import RedisServer, is_redis, parse_address

__all__ = ["check_place", "check_readable", "check_server", "open_log"]


def open_log(place: str, *, days: float | None = None, max_bytes: float | None = None) -> EventLog:
    """Opens the log of a folder or of a Redis server; see `EventLog`.

    Raises:
        ValueError: the URL is not one of a Redis server.
        ImportError: redis-py is not installed.
    """
    if not is_redis(place):
        return EventLog(Path(place), days=days, max_bytes=max_bytes)
    from reelseek.recommendation.events.redis_store import RedisEvents

    server = RedisServer(parse_address("events", place))
    return EventLog(RedisEvents(server), days=days, max_bytes=max_bytes)


def check_place(place: str, *, index: Path | None) -> None:
    """Raises a ValueError where events cannot be kept.

    Args:
        index: the folder of the index, outside of which events are kept.
    """
    if is_redis(place):
        check_server("events", place)
    else:
        check_folder(Path(place), index=index)


def check_readable(place: str) -> None:
    """Raises a ValueError where there is no log."""
    if is_redis(place):
        check_server("events", place)
    elif not Path(place).is_dir():
        raise ValueError(f"events={place}: no such folder; name that of `serve events=DIR`")


def check_server(option: str, place: str) -> None:
    """Raises a ValueError where a Redis server cannot be reached, or could lose what it has."""
    server = RedisServer(parse_address(option, place))
    try:
        server.check(option)
    finally:
        server.close()
