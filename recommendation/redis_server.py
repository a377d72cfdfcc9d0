"""The address of a Redis server -> a connection to its master, which waits for a replica.

    server = RedisServer(parse_address("events", "redis+sentinel://a:26379,b:26379/mymaster"))
    server.check()
    server.call("GET", "key")
    server.call_replicated("SET", "key", "value")  # fsynced, and a replica has it

Events and models are kept in such a server where there is more than one machine.
"""

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, quote

from reelseek.text.urls import REDIS_SCHEMES, is_url, scheme_of

if TYPE_CHECKING:
    import redis

__all__ = ["RedisAddress", "RedisRefused", "RedisServer", "RedisUnavailable", "is_redis"]

_URL = re.compile(
    r"(?P<scheme>rediss?(\+sentinel)?)://(?P<hosts>[^/?#]*)(?P<path>(/[^/?#]*){0,2})(?P<rest>.*)\Z",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]@]+)(:(?P<port>\d{1,5}))?\Z")
_PORT, _SENTINEL_PORT = 6379, 26379
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")  # as redis-py names them

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 10.0
_WAIT_MS = 2000  # for a replica
# Answers of a server that is starting, that has no replica, or that is no longer the master.
_PASSING = ("LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "BUSY", "UNBLOCKED", "TRYAGAIN")

_T = TypeVar("_T")


class RedisUnavailable(ConnectionError):
    """The server, or its replica, did not answer in time; what was sent may have been done."""


class RedisRefused(RedisUnavailable):
    """The server answered with an error: it is full, or cannot write to its disk."""


@dataclass(frozen=True)
class RedisAddress:
    """Where a server is; prints without credentials, which it does not have.

    Attributes:
        hosts: of the server, or of the Sentinels that know it.
        master: its name among Sentinels; empty where the one host is the server itself.
        database: number of the database.
        is_encrypted: whether TLS is used.
        tls_files: names of options and paths: certificates to trust beside those of the system's,
            and the client's own certificate and key.
    """

    hosts: tuple[tuple[str, int], ...]
    master: str = ""
    database: int = 0
    is_encrypted: bool = False
    tls_files: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        scheme = ("rediss" if self.is_encrypted else "redis") + ("+sentinel" if self.master else "")
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        path = f"{self.master}/{self.database}" if self.master else str(self.database)
        query = "&".join(f"{name}={quote(file)}" for name, file in self.tls_files)
        return f"{scheme}://{hosts}/{path}" + (f"?{query}" if query else "")


def is_redis(place: str) -> bool:
    """Whether an option names a Redis server, not a folder."""
    return scheme_of(place) in REDIS_SCHEMES and is_url(place)


def parse_address(option: str, url: str) -> RedisAddress:
    """Reads `redis://HOST[:PORT][/DATABASE]` or `redis+sentinel://HOST[:PORT],.../NAME[/DATABASE]`;
    with `rediss` for TLS, and then `?ssl_ca_certs=FILE`, `ssl_certfile` and `ssl_keyfile`.

    Raises:
        ValueError: it is neither, or has credentials, which others could see on a command line; or
            there is no such file.
    """
    forms = "redis://HOST:PORT/DATABASE or redis+sentinel://HOST:PORT,HOST:PORT/NAME"
    if "@" in url:
        raise ValueError(
            f"{option}: has a user or a password in it; set REDIS_USERNAME and REDIS_PASSWORD in "
            "the environment"
        )
    found = _URL.match(url)
    if found is None:
        raise ValueError(f"{option}={url}: must be {forms}")
    scheme, path = found["scheme"].lower(), found["path"].strip("/").split("/")
    tls_files = _tls_files(found["rest"], is_encrypted=scheme.startswith("rediss"))
    if tls_files is None:
        files = "".join(f"&{name}=FILE" for name in _TLS_FILES)
        raise ValueError(f"{option}={url}: must be {forms}; rediss may end in ?{files[1:]}")
    for name, file in tls_files:
        if not Path(file).is_file():
            raise ValueError(f"{option}={url}: {name}={file}: no such file")
    is_sentinel = scheme.endswith("+sentinel")
    hosts = [_HOST.match(host) for host in found["hosts"].split(",")]
    database = (path[1] if len(path) > 1 else "") if is_sentinel else path[0]
    is_valid = bool(path[0]) if is_sentinel else len(hosts) == len(path) == 1
    if not is_valid or not all(hosts) or not re.fullmatch(r"\d{0,5}", database):
        raise ValueError(f"{option}={url}: must be {forms}")
    default = _SENTINEL_PORT if is_sentinel else _PORT
    return RedisAddress(
        tuple((host["host"].strip("[]"), int(host["port"] or default)) for host in hosts if host),
        path[0] if is_sentinel else "",
        int(database or 0),
        scheme.startswith("rediss"),
        tls_files,
    )


def _tls_files(query: str, *, is_encrypted: bool) -> tuple[tuple[str, str], ...] | None:
    """Returns the files that the end of a URL names; None where it says something else."""
    if not query:
        return ()
    pairs = parse_qsl(query[1:], keep_blank_values=True)
    names = [name for name, _ in pairs]
    is_valid = query[0] == "?" and is_encrypted and len(set(names)) == len(names) > 0
    return tuple(pairs) if is_valid and set(names) <= set(_TLS_FILES) else None


class RedisServer:
    """One connection to the master, made when it is needed and again after an error. Threads may
    share it.

    Args:
        wait_ms: how long a replica may take to confirm a write.

    Raises:
        ImportError: redis-py is not installed.
    """

    def __init__(self, address: RedisAddress, *, wait_ms: int = _WAIT_MS) -> None:
        try:
            import redis
        except ImportError as error:
            raise ImportError(
                f"{address}: needs redis-py: pip install 'reelseek[redis]'"
            ) from error
        self.address, self._wait_ms = address, wait_ms
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None

    def close(self) -> None:
        with self._lock:
            self._drop()

    def call(self, *command: Any) -> Any:
        """Returns the answer to one command.

        Raises:
            RedisUnavailable: there is none.
        """
        return self._on_client(lambda client: client.execute_command(*command))

    def call_replicated(self, *command: Any) -> Any:
        """The same of a command that writes, once a replica has confirmed all that was written
        until then. A server that is no longer the master, but does not know, has no replica.

        Raises:
            RedisUnavailable: no replica did; the write may be done, and may be lost.
        """

        def call(client: "redis.Redis") -> Any:
            pipe = client.pipeline(transaction=False)
            pipe.execute_command(*command)
            pipe.execute_command("WAIT", 1, self._wait_ms)
            answers = pipe.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        answer, num_replicas = self._on_client(call)
        if num_replicas < 1:
            raise RedisUnavailable(f"{self.address}: no replica has confirmed the write")
        return answer

    def call_confirmed(self, *command: Any, is_needed: Callable[[Any], bool]) -> tuple[Any, bool]:
        """Returns the answer, and whether a replica has confirmed all that was written until then.

        Args:
            is_needed: says of the answer whether to ask a replica.
        """

        def call(client: "redis.Redis") -> tuple[Any, bool]:
            # Over one connection, as a new one would wait for nothing.
            answer = client.execute_command(*command)
            if not is_needed(answer):
                return answer, False
            return answer, int(client.execute_command("WAIT", 1, self._wait_ms)) >= 1

        return self._on_client(call)

    def persistence(self) -> dict[str, str]:
        """Returns what the server says of its files."""
        found = self.call("INFO", "persistence")
        return {str(name): str(value) for name, value in found.items()}

    def check(self, option: str) -> None:
        """Raises a ValueError where the server cannot be reached, or could lose what it says is
        stored."""
        try:
            settings = {
                name: self._setting(name)
                for name in ("appendonly", "appendfsync", "maxmemory", "maxmemory-policy")
            }
        except RedisUnavailable as error:
            raise ValueError(f"{option}={error}") from error
        wanted = {"appendonly": "yes", "appendfsync": "always"}
        if settings["maxmemory"] != "0":
            wanted["maxmemory-policy"] = "noeviction"
        for name, value in wanted.items():
            if settings[name] != value:
                raise ValueError(
                    f"{option}={self.address}: its setting {name} is {settings[name]!r}; must be "
                    f"{value!r}, or what is acknowledged could be lost"
                )

    def _setting(self, name: str) -> str:
        found = self.call("CONFIG", "GET", name)
        pairs = (
            found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        )
        values = [value.decode() if isinstance(value, bytes) else value for value in pairs.values()]
        return str(values[0]) if values else "unknown"

    def _on_client(self, call: Callable[["redis.Redis"], _T]) -> _T:
        from redis import exceptions

        with self._lock:
            try:
                if self._client is None:
                    self._client = self._connected()
                return call(self._client)
            except exceptions.ResponseError as error:
                self._drop()
                is_passing = any(word in str(error) for word in _PASSING)
                kind = RedisUnavailable if is_passing else RedisRefused
                raise kind(f"{self.address}: {_one_line(error)}") from error
            except (exceptions.RedisError, OSError) as error:
                self._drop()
                raise RedisUnavailable(f"{self.address}: {_one_line(error)}") from error
            except BaseException:
                self._drop()  # an answer may be on its way, which nobody waits for any more
                raise

    def _connected(self) -> "redis.Redis":
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
        from redis.sentinel import Sentinel

        options: dict[str, Any] = {
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_timeout": _ANSWER_SECONDS,
            "ssl": self.address.is_encrypted,
            **dict(self.address.tls_files),
            # A repeat is the caller's to decide, who knows whether it is harmless.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if self.address.master:
            sentinel = Sentinel(
                self.address.hosts,
                sentinel_kwargs={
                    **options,
                    "socket_timeout": _CONNECT_SECONDS,
                    **_credentials("REDIS_SENTINEL_"),
                },
            )
            host, port = sentinel.discover_master(self.address.master)
        else:
            ((host, port),) = self.address.hosts
        return redis.Redis(
            host=host,
            port=port,
            db=self.address.database,
            single_connection_client=True,
            **{**options, **_credentials("REDIS_")},
        )

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()


def _credentials(prefix: str) -> dict[str, Any]:
    found = {name: os.environ.get(f"{prefix}{name.upper()}") for name in ("username", "password")}
    return {name: value for name, value in found.items() if value}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
