"""A service whose processes are killed by name, and which is started again like a system's service
manager starts it."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.service_traffic import ask
from benchmarks.serving import ROOT, free_port
from benchmarks.serving_faults import TOKEN

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
