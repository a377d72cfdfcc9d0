"""A service whose processes are killed at random moments.

What does not start again by itself is started again, as a system's service manager would do it.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from benchmarks.redis_kills import Processes, kill_server, restart
from benchmarks.service_traffic import ask
from benchmarks.serving import ROOT, free_port
from benchmarks.serving_faults import TOKEN
from benchmarks.unkilled_replay import OPTIONS, new_model
from reelseek.recommendation.learning.store import ModelReader
from tests.recommendation.redis_servers import Failover, Server, wait_until

WHOLE_SECONDS = 180.0
_LONGEST_SECONDS = 3.0  # between two kills
_COMMIT_SECONDS = 8.0  # that a learner has, now and then, to commit before it is killed
_UP_AGAIN = 0.5  # probability that a Redis server is started again, at each look
_VICTIMS = {"learner": 60, "worker": 26, "encoder": 4, "media": 3, "library": 3, "supervisor": 4}
_WHOLE_SOON_SECONDS = 3.0
_GONE_SECONDS = 30.0  # after which nothing may be left of a service whose supervisor was killed
_STOP_SECONDS = 40.0


class KilledService:
    """Runs `serve`; its log is `service.log` in the folder.

    Attributes:
        num_refused: starts that failed, as the address was still taken.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._below: list[psutil.Process] = []  # supervisors that were killed
        self.num_refused = 0
        self._log = folder / "service.log"
        self._options = (*options, f"port={self.port}", f"write_token={TOKEN}")
        self._process: subprocess.Popen[bytes] | None = None
        self._read_bytes, self._pids = 0, dict[str, int]()

    def keep_up(self) -> None:
        """Starts it if it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.num_refused += 1
        self._pids.clear()
        with self._log.open("ab") as file:
            self._read_bytes = file.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving", *self._options],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )

    def is_ready(self) -> bool:
        """Whether a worker answers searches; starts it if it does not run."""
        self.keep_up()
        return ask(self.port, "GET", "/readyz")[0] == "200"

    def running(self) -> dict[str, psutil.Process]:
        """Returns the processes that live, by name."""
        with self._log.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file.read().splitlines():
                found = _fields(line)
                if found.get("message") == "started":
                    self._pids[found["process"]] = found["pid"]
        live = {}
        for name, pid in self._pids.items():
            try:
                process = psutil.Process(pid)
                if _lives(process) and process.ppid() == self._pid:
                    live[name] = process
            except psutil.NoSuchProcess:
                continue
        return live

    def is_whole(self) -> bool:
        """Whether all its processes run, and none is just being replaced."""
        self.keep_up()
        running = self.running()
        return bool(running) and len(running) == len(self._pids)

    def kill(self, kind: str, draws: random.Random) -> bool:
        """Kills a process whose name begins so; returns whether there was one."""
        found = [process for name, process in self.running().items() if name.startswith(kind)]
        if not found:
            return False
        draws.choice(found).kill()
        return True

    def kill_all(self) -> bool:
        """Kills the supervisor; the others must end with it."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._below += psutil.Process(self._pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        self._process = None
        return True

    def outlived(self) -> list[str]:
        """Returns which processes have outlived a supervisor that was killed."""
        deadline = time.monotonic() + _GONE_SECONDS
        while time.monotonic() < deadline and any(map(_lives, self._below)):
            time.sleep(0.1)
        left = [process for process in self._below if _lives(process)]
        for process in left:
            process.kill()
        return [f"outlived its supervisor: {_shown(process)}" for process in left]

    def stop(self) -> None:
        """As a service manager does: politely."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(_STOP_SECONDS)

    @property
    def _pid(self) -> int:
        return 0 if self._process is None else self._process.pid


def _fields(line: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError):  # no line of the log, or one that is being written
        return {}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _shown(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return str(process)


class Bench:
    """What runs, where it is, and how it is killed.

    Attributes:
        kills: by the process that was killed.
        num_learned: kills of the learner, or of all with it, before which it had committed since
            the one before.
    """

    def __init__(self, folder: Path, *, draws: random.Random, workers: int, redis: bool) -> None:
        self.folder, self.draws = folder, draws
        self.kills: Counter[str] = Counter()
        self.num_learned = self.num_failovers = 0
        self.servers = Failover(folder / "redis") if redis else None
        self.events = self.servers.url if self.servers else str(folder / "events")
        self.model = folder / "model" if redis else folder / "events" / "learned"
        options = [f"index={folder / 'index'}", f"events={self.events}", f"workers={workers}"]
        options.append(f"cache={folder / 'cache'}")
        self.outside: Processes | None = None
        if self.servers:
            self.outside = Processes(
                folder, self.servers.url, ("learner",), (f"index={folder / 'index'}",)
            )
        else:
            options += ["learn=true", f"personal.learner_options=[{','.join(OPTIONS)}]"]
        self.service = KilledService(folder, *options)
        self._down: Server | None = None
        self._committed = ""

    def start(self) -> None:
        self.keep_up()
        wait_until(self.service.is_ready, WHOLE_SECONDS)

    def keep_up(self) -> None:
        self.service.keep_up()
        if self.outside:
            self.outside.keep_up()

    def stop(self) -> None:
        """Stops the service and the learner, not the Redis servers."""
        self.service.stop()
        if self.outside:
            self.outside.kill("learner")

    def close(self) -> None:
        self.stop()
        if self.servers:
            self.servers.close()

    def kill_one(self) -> None:
        """Kills something after a while, and starts what does not start by itself."""
        time.sleep(self.draws.uniform(0, _LONGEST_SECONDS))
        self.keep_up()
        if self.servers and self._down is not None and self.draws.random() < _UP_AGAIN:
            self.start_server(plainly=self.draws.random() < 0.5)
        if self.servers and self.draws.random() < 0.3 and self._is_whole_soon():
            self._down, victim = kill_server(self.servers, self.draws)
            self.kills[victim] += 1
            return
        victim = self.draws.choices(list(_VICTIMS), list(_VICTIMS.values()))[0]
        if victim in ("learner", "supervisor") and self.draws.random() < 0.5:
            self._wait_for_commit()
        committed = self.committed()
        if victim == "learner" and self.outside:
            was_killed = self.outside.kill("learner")
        elif victim == "supervisor":
            was_killed = self.service.kill_all()
        else:
            was_killed = self.service.kill(victim, self.draws)
        self.kills[victim] += was_killed
        if not was_killed:
            return
        if victim == "learner" or (victim == "supervisor" and not self.outside):
            self.num_learned += committed != self._committed
            self._committed = committed

    def start_server(self, *, plainly: bool) -> None:
        if self.servers and self._down is not None:
            self.num_failovers += restart(self.servers, self._down, plainly=plainly)
            self._down = None

    def committed(self) -> str:
        """Returns what tells the newest commit from those before."""
        names = [path.name.partition("-")[2] for path in self.model.glob("*-*.bin")]
        return max(names, default="")

    def is_held(self, position: int) -> bool:
        """Whether the newest whole state of the model has the events up to a position."""
        try:
            return ModelReader(self.model).load(new_model()).snapshot_position >= position
        except (ValueError, OSError):  # the learner deletes it just now
            return False

    def _is_whole_soon(self) -> bool:
        """Whether the replica has all that the master has, at a moment of the next seconds."""
        assert self.servers is not None
        try:
            wait_until(self.servers.is_whole, _WHOLE_SOON_SECONDS)
            return True
        except TimeoutError:
            return False

    def _wait_for_commit(self) -> None:
        deadline = time.monotonic() + _COMMIT_SECONDS
        while time.monotonic() < deadline and self.committed() == self._committed:
            self.keep_up()
            time.sleep(0.05)
        time.sleep(self.draws.uniform(0, 1))
