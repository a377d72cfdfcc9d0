"""Redis servers of a test: a master with a replica, and Sentinels, on ports of loopback."""

import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")

_SECONDS = 30.0
NAME = "reelseek"  # of the master, among Sentinels


def free_port() -> int:
    """Returns one that the system gives to no connection, as a killed server takes it again."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(is_true: Callable[[], object], seconds: float = _SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(is_true)
        time.sleep(0.02)


class Server:
    """A process of Redis, with a file of its own that outlives it."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self._options = folder, port or free_port(), options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> "Server":
        command = [str(SERVER), *self._options, "--port", str(self.port), "--dir", str(self.folder)]
        command += ["--bind", "127.0.0.1", "--logfile", str(self.folder / "log.txt"), *more]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.folder)
        wait_until(self.is_up)
        return self

    def is_up(self) -> bool:
        import redis

        try:
            return bool(self.call("PING"))
        except redis.exceptions.RedisError:
            return False

    def call(self, *command: object) -> Any:
        import redis

        client = redis.Redis(port=self.port, socket_timeout=5, protocol=2, decode_responses=True)
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def num_replicas(self) -> int:
        """That have all that this master has."""
        info = self.call("INFO", "replication")
        return sum(
            each["state"] == "online" and each["offset"] == info["master_repl_offset"]
            for name, each in info.items()
            if name.startswith("slave") and isinstance(each, dict)
        )

    def has_written(self) -> bool:
        """Whether what it was given by a master is in its file, which is written anew then."""
        info = self.call("INFO", "persistence")
        return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]


OPTIONS = (
    *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
    *("--repl-diskless-sync-delay", "0"),
)


class Pair:
    """A master and its replica."""

    def __init__(self, folder: Path) -> None:
        self.master = Server(folder / "a", *OPTIONS).start()
        self.replica = Server(folder / "b", *OPTIONS)
        self.start_replica()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.master.port}"

    def start_replica(self) -> None:
        self.replica.start("--replicaof", "127.0.0.1", str(self.master.port))
        wait_until(lambda: self.master.num_replicas() == 1)
        wait_until(self.replica.has_written)

    def close(self) -> None:
        self.master.kill()
        self.replica.kill()


class Failover:
    """A master, its replica, and three Sentinels, which put the replica in the master's place."""

    def __init__(self, folder: Path, *, down_ms: int = 500) -> None:
        self.servers = [Server(folder / name, *OPTIONS) for name in "ab"]
        self.servers[0].start()
        self.servers[1].start("--replicaof", "127.0.0.1", str(self.servers[0].port))
        wait_until(lambda: self.servers[0].num_replicas() == 1)
        self.sentinels = []
        for name in "xyz":
            at = folder / name
            at.mkdir()
            (at / "sentinel.conf").write_text(
                f"sentinel monitor {NAME} 127.0.0.1 {self.servers[0].port} 2\n"
                f"sentinel down-after-milliseconds {NAME} {down_ms}\n"
                f"sentinel failover-timeout {NAME} 1500\n"
            )
            sentinel = Server(at, str(at / "sentinel.conf"), "--sentinel")
            self.sentinels.append(sentinel.start())
        wait_until(lambda: all(self._knows_all(each) for each in self.sentinels))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    def master(self) -> Server:
        """That the Sentinels name."""
        _, port = self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(each for each in self.servers if each.port == int(port))

    def other(self, server: Server) -> Server:
        return next(each for each in self.servers if each is not server)

    def demote(self, server: Server) -> None:
        """Makes a master of before a replica at once, which Sentinels do after 8 seconds."""
        if (master := self.master()) is not server:
            server.call("REPLICAOF", "127.0.0.1", master.port)

    def is_whole(self) -> bool:
        """Whether there is a master, and a replica that has all and its file."""
        import redis

        try:
            master = self.master()
            replica = self.other(master)
            files = replica.call("INFO", "persistence")
            return (
                master.call("ROLE")[0] == "master"
                and master.num_replicas() == 1
                and not files["aof_rewrite_in_progress"]
                and not files["aof_rewrite_scheduled"]
                and not files["loading"]
                and all(self._knows_all(each) for each in self.sentinels)
            )
        except (redis.exceptions.RedisError, ConnectionError):
            return False

    def close(self) -> None:
        for each in [*self.sentinels, *self.servers]:
            each.kill()

    def _knows_all(self, sentinel: Server) -> bool:
        (found,) = sentinel.call("SENTINEL", "MASTERS")
        if isinstance(found, list):
            found = dict(zip(found[::2], found[1::2], strict=True))
        return int(found["num-slaves"]) == 1 and int(found["num-other-sentinels"]) == 2
