"""Kills a learner, a writer and Redis servers behind Sentinels at random moments, and looks at what
is left.

    python benchmarks/redis_kills.py folder=DIR log=FILE [max_seconds=300] [seed=0]

Afterwards each acknowledged event must be in the log, and none twice; the learner's state must
equal, to the last bit, that of a learner which reads the resulting log without being killed; and so
must the state that servers follow. Appends a line of JSON to the file and prints the sums of all
its lines. The exit code is 1 where something is wrong.

One Redis server is killed at a time: the next one only once its replica has all events, as nothing
with two copies outlives the loss of both.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.unkilled_replay import OPTIONS, learn, new_model, state_of, summed  # noqa: E402
from reelseek.recommendation.events.opening import open_log  # noqa: E402
from reelseek.recommendation.learning.redis_files import RedisFiles  # noqa: E402
from reelseek.recommendation.learning.store import ModelReader  # noqa: E402
from reelseek.recommendation.redis_server import RedisServer, parse_address  # noqa: E402
from tests.recommendation.learning.learner import digest_of  # noqa: E402
from tests.recommendation.redis_servers import Failover, Server, wait_until  # noqa: E402

SUMMED = ("failovers", "acknowledged", "lost", "twice")
_LONGEST_SECONDS = 2.5  # between two kills
_UP_AGAIN = 0.4  # probability that a server is started again, at each look
_WHOLE_SECONDS = 90.0


@dataclass
class Processes:
    """The learner and the writer, which are started again when they end.

    Attributes:
        names: of those that run.
        learner_options: of the learner, beside those of the replay.
    """

    folder: Path
    url: str
    names: tuple[str, ...] = ("writer", "learner")
    learner_options: tuple[str, ...] = ()
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    num_writers: int = 0

    def command(self, name: str) -> list[str]:
        if name == "writer":
            self.num_writers += 1
            module = "tests.recommendation.learning.event_sender"
            return ["-m", module, self.url, f"{self.folder.name}-{self.num_writers}"]
        places = [f"events={self.url}", f"publish={self.url}", f"output={self.folder / 'model'}"]
        return ["-m", "reelseek.recommendation.learn", *OPTIONS, *places, *self.learner_options]

    def keep_up(self) -> None:
        for name in self.names:
            if name not in self.running or self.running[name].poll() is not None:
                command = self.command(name)
                output = self.folder / f"{name}-{self.num_writers}.out"
                with output.open("a") as out, (self.folder / f"{name}.err").open("a") as err:
                    self.running[name] = subprocess.Popen(
                        [sys.executable, *command], cwd=ROOT, stdout=out, stderr=err
                    )

    def kill(self, name: str) -> bool:
        """Returns whether it was running."""
        process = self.running.pop(name, None)
        if process is None or process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True

    def acknowledged(self) -> set[str]:
        found: set[str] = set()
        for path in self.folder.glob("writer-*.out"):
            lines = path.read_text().split("\n")[:-1]  # without one that was cut off
            found.update(each for line in lines for each in json.loads(line))
        return found


def main() -> None:
    options = parse_options(__doc__, folder=None, log=None, max_seconds="300", seed="0")
    seed = int(options["seed"])
    folder = Path(options["folder"]) / f"seed-{seed}"
    folder.mkdir(parents=True)
    servers = Failover(folder / "redis")
    processes = Processes(folder, servers.url)
    try:
        result: dict[str, Any] = {"seed": seed}
        result |= kill_at_random(
            servers, processes, max_seconds=float(options["max_seconds"]), seed=seed
        )
        result |= examine(servers, processes)
    finally:
        for name in ("learner", "writer"):
            processes.kill(name)
        servers.close()
    with open(options["log"], "a") as file:
        file.write(json.dumps(result) + "\n")
    lines = [json.loads(line) for line in Path(options["log"]).read_text().splitlines()]
    print(json.dumps(result))
    print(json.dumps(summed(lines, SUMMED, is_right=is_right)))
    sys.exit(not is_right(result))


def kill_at_random(
    servers: Failover, processes: Processes, *, max_seconds: float, seed: int
) -> dict[str, Any]:
    draws, kills = random.Random(seed), Counter[str]()
    num_failovers, down = 0, None
    deadline = time.monotonic() + max_seconds
    processes.keep_up()
    while time.monotonic() < deadline:
        time.sleep(draws.uniform(0, _LONGEST_SECONDS))
        processes.keep_up()
        if down is not None and draws.random() < _UP_AGAIN:
            num_failovers += restart(servers, down, plainly=draws.random() < 0.5)
            down = None
        if draws.random() < 0.5 or not servers.is_whole():
            victim = draws.choice(("learner", "writer"))
            kills[victim] += processes.kill(victim)
        else:
            down, victim = kill_server(servers, draws)
            kills[victim] += 1
    if down is not None:
        num_failovers += restart(servers, down, plainly=False)
    processes.keep_up()
    return {"kills": dict(kills), "failovers": num_failovers}


def kill_server(servers: Failover, draws: random.Random) -> tuple[Server, str]:
    """Kills one; mostly the master, now and then its replica, without which nothing is
    acknowledged."""
    is_master = draws.random() < 0.75
    down = servers.master() if is_master else servers.other(servers.master())
    down.kill()
    return down, "redis master" if is_master else "redis replica"


def restart(servers: Failover, down: Server, *, plainly: bool) -> bool:
    """Starts a server that was killed; returns whether the other one has taken its place."""
    master = servers.master()
    other = servers.other(down)
    if master is down or plainly:
        down.start()  # the Sentinels make it a replica where it is not the master any more
    else:
        down.start("--replicaof", "127.0.0.1", str(other.port))
    return master is other


def examine(servers: Failover, processes: Processes) -> dict[str, Any]:
    wait_until(servers.is_whole, _WHOLE_SECONDS)
    processes.kill("writer")
    processes.kill("learner")
    acknowledged = processes.acknowledged()
    log = open_log(servers.url)
    try:
        counts = Counter(each.event.event_id for each in log.scan())
        files = RedisFiles(RedisServer(parse_address("publish", servers.url)))
        killed, epoch = learn(log, processes.folder / "model", publish=files)
        followed = new_model()
        followed_position = ModelReader(files).load(followed).position
        replayed, _ = learn(log, processes.folder / "replayed")
        is_equal = state_of(killed) == state_of(replayed)
        return {
            "events": len(counts),
            "acknowledged": len(acknowledged),
            "lost": len(acknowledged - counts.keys()),
            "twice": sum(count > 1 for count in counts.values()),
            "learned": killed.model.num_learned,
            "epochs": epoch,
            "equal": is_equal,
            "followed_equal": followed_position == killed.position
            and digest_of(followed) == digest_of(killed.model),
        }
    finally:
        log.close()


def is_right(result: dict[str, Any]) -> bool:
    whole = result["equal"] and result["followed_equal"]
    return bool(whole and not result["lost"] and not result["twice"])


if __name__ == "__main__":
    main()
