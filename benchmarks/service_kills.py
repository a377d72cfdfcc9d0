"""Kills the processes of a running service at random moments, and looks at what is left.

    python benchmarks/service_kills.py folder=DIR log=FILE [kills=200] [max_seconds=600] [seed=0]
        [redis=false] [workers=2]

Starts `serve` with its learner on an index of made-up videos. People search, and send events over
HTTP, again until they are acknowledged; now and then one has all events deleted. Meanwhile workers,
which also write the events, the learner, the encoder and the other helpers are killed
(`kill -9`), and now and then the supervisor, which all others must follow; then `serve` is started
again. With `redis=true` events are in a Redis server with a replica and three Sentinels, a learner
outside of the service publishes there, and the servers are killed, too.

Afterwards each acknowledged event must be in the log, unless its user was deleted, and none twice;
of who was deleted nothing may be left in the files of the log; the model must equal, to the last
bit, that of a learner that reads the log without being killed, and so must what the workers
serve. Appends a line of JSON to the file and prints it, with the sums of all its lines. The exit
code is 1 where something is wrong.
"""

import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.killed_service import WHOLE_SECONDS, Bench  # noqa: E402
from benchmarks.learning_end_to_end import build  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402
from benchmarks.service_traffic import (  # noqa: E402
    QUERIES,
    Deleter,
    Mirror,
    MirroredLog,
    Reader,
    Sender,
    Traffic,
    ask,
    target_of,
)
from benchmarks.unkilled_replay import learn, new_model, state_of, summed  # noqa: E402
from reelseek.recommendation.events.log import EventLog, EventsUnavailable  # noqa: E402
from reelseek.recommendation.events.opening import open_log  # noqa: E402
from reelseek.recommendation.events.schema import Deletion  # noqa: E402
from reelseek.recommendation.learn import FACTS_NAME  # noqa: E402
from reelseek.recommendation.learning.redis_files import RedisFiles  # noqa: E402
from reelseek.recommendation.learning.store import ModelReader  # noqa: E402
from reelseek.recommendation.personal.facts import FactsBook  # noqa: E402
from reelseek.recommendation.redis_server import RedisServer, parse_address  # noqa: E402
from tests.recommendation.learning.learner import digest_of  # noqa: E402
from tests.recommendation.redis_servers import wait_until  # noqa: E402

SUMMED = ("learned_between_kills", "acknowledged", "lost", "twice", "deletions", "faults")
NUM_VIDEOS, NUM_SENDERS, NUM_READERS = 40, 2, 2


@dataclass
class Crowd:
    """What people do, and a reader of the log."""

    mirror: Mirror
    senders: list[Sender]
    deleter: Deleter
    readers: list[Reader]

    @property
    def all(self) -> list[Traffic]:
        return [self.mirror, *self.senders, self.deleter, *self.readers]


def main() -> None:
    options = parse_options(
        __doc__,
        **{"folder": None, "log": None, "kills": "200", "max_seconds": "600"},
        **{"seed": "0", "redis": "false", "workers": "2"},
    )
    seed, redis = int(options["seed"]), options["redis"] == "true"
    folder = Path(options["folder"]) / f"seed-{seed}{'-redis' if redis else ''}"
    folder.mkdir(parents=True)
    authors = build(folder / "index", num_videos=NUM_VIDEOS, model_name="mini_fast")
    bench = Bench(folder, draws=random.Random(seed), workers=int(options["workers"]), redis=redis)
    try:
        bench.start()
        log = open_log(bench.events)
        with traffic(bench, log, authors, seed=seed) as crowd:
            deadline = time.monotonic() + float(options["max_seconds"])
            while time.monotonic() < deadline and bench.kills.total() < int(options["kills"]):
                bench.kill_one()
            bench.start_server(plainly=False)
            wait_until(bench.service.is_whole, WHOLE_SECONDS)
        result = {"seed": seed, "redis": redis} | examine(bench, log, crowd)
    finally:
        bench.close()
    with open(options["log"], "a") as file:
        file.write(json.dumps(result) + "\n")
    lines = [json.loads(line) for line in Path(options["log"]).read_text().splitlines()]
    print(json.dumps(result))
    print(json.dumps(summed(lines, SUMMED, is_right=is_right)))
    sys.exit(not is_right(result))


def plain_answer(port: int, query: str) -> Any:
    """Returns what nobody in particular is answered; one worker is ready before the other one."""
    found: list[bytes] = []

    def is_answered() -> bool:
        status, content = ask(port, "GET", target_of(query))
        found.append(content)
        return status == "200"

    wait_until(is_answered, WHOLE_SECONDS)
    return json.loads(found[-1])


@contextmanager
def traffic(bench: Bench, log: EventLog, authors: dict[str, str], *, seed: int) -> Iterator[Crowd]:
    """Runs what people do until the block ends."""
    port = bench.service.port
    plain = {query: plain_answer(port, query) for query in QUERIES}
    mirror = Mirror(log)
    senders = [Sender(port, authors, seed=10 * seed + n) for n in range(NUM_SENDERS)]
    deleter = Deleter(port, senders, mirror, is_held=bench.is_held)

    def users() -> list[str]:
        return [*senders[0].users, *deleter.deleted[-5:]]

    def last_position() -> float:
        try:
            return log.bounds()[1]
        except EventsUnavailable:
            return inf

    readers = [
        Reader(port, plain, users, seed=100 + n, last_position=last_position)
        for n in range(NUM_READERS)
    ]
    crowd = Crowd(mirror, senders, deleter, readers)
    with ExitStack() as stack:
        for each in crowd.all:
            each.start()
            stack.callback(each.stop)
        yield crowd


def examine(bench: Bench, log: EventLog, crowd: Crowd) -> dict[str, Any]:
    mirror, deleter, senders = crowd.mirror, crowd.deleter, crowd.senders
    position = log.bounds()[1]
    mirror.catch_up(position)
    faults = [fault for each in crowd.all for fault in each.faults]
    faults += wait_until_served(bench, position) + found_of_deleted(bench, deleter)
    bench.stop()
    faults += bench.service.outlived()
    deleted = set(deleter.deleted)
    found = [each.event for each in log.scan()]
    counts = Counter(event.event_id for event in found)
    given = Counter(each.event.event_id for each in mirror.events)
    of_deleted = {each.event.event_id for each in mirror.events if each.event.user in deleted}
    acknowledged = set[str]().union(*(each.acknowledged for each in senders))
    lost = (acknowledged - of_deleted - counts.keys()) | (acknowledged - given.keys())
    return {
        "kills": dict(bench.kills),
        "learned_between_kills": bench.num_learned,
        "failovers": bench.num_failovers,
        "starts_refused": bench.service.num_refused,
        "events": len(found),
        "acknowledged": len(acknowledged),
        "lost": len(lost),
        "twice": sum(count > 1 for each in (counts, given) for count in each.values()),
        "deletions": sum(isinstance(event, Deletion) for event in found),
        "deleted_events": len(of_deleted),
        "not_deleted": len(of_deleted & counts.keys()) + traces(bench, deleted),
        "sent": dict(sum((each.outcomes for each in (*senders, deleter)), Counter())),
        "searches": dict(sum((each.outcomes for each in crowd.readers), Counter())),
        "personal": sum(each.num_personal for each in crowd.readers),
        **states_of(bench, log, mirror),
        "faults": len(faults),
        "first_faults": faults[:5],
    }


def wait_until_served(bench: Bench, position: int) -> list[str]:
    """Waits for the learner to learn all, and for the worker that is furthest behind to serve it;
    returns what did not happen."""
    deadline = time.monotonic() + WHOLE_SECONDS
    name, served = b"reelseek_learned_position ", 0.0
    while time.monotonic() < deadline:
        bench.keep_up()
        _, content = ask(bench.service.port, "GET", "/metrics")
        values = [line.split()[-1] for line in content.splitlines() if line.startswith(name)]
        served = float(values[0]) if values else 0.0
        if served == position:
            return []
        time.sleep(0.1)
    return [f"the workers serve position {served}, the log has {position}"]


def found_of_deleted(bench: Bench, deleter: Deleter) -> list[str]:
    """Returns which deleted users are still known to searches."""
    known = []
    for user in deleter.deleted:
        content = b"{}"

        def is_answered(target: str = target_of(QUERIES[0], user)) -> bool:
            nonlocal content
            status, content = ask(bench.service.port, "GET", target)
            return status == "200"

        wait_until(is_answered, WHOLE_SECONDS)  # a busy service may say 503 first
        if "learned_position" in json.loads(content):
            known.append(f"{user} was deleted, and is known")
    return known


def states_of(bench: Bench, log: EventLog, mirror: Mirror) -> dict[str, Any]:
    """Compares what was learned with what a learner that is not killed makes of the same events.

    That one is given what the mirror has kept, as users' events counted until they were deleted.
    """
    replayed_folder = bench.folder / "replayed"
    replayed_folder.mkdir()
    shutil.copy(bench.model / FACTS_NAME, replayed_folder)
    files = None
    if bench.servers:
        files = RedisFiles(RedisServer(parse_address("publish", bench.events)))
    followed = new_model()
    stored = ModelReader(bench.model if files is None else files).load(followed)
    path = replayed_folder / FACTS_NAME
    with closing(FactsBook(path, lambda video: None)) as book:
        killed, epoch = learn(log, bench.model, publish=files, facts=book)
        replayed, _ = learn(MirroredLog(mirror.events), replayed_folder, facts=book)
    return {
        "learned": killed.model.num_learned,
        "epochs": epoch,
        "freezes": killed.guard.num_freezes,
        "equal": state_of(killed) == state_of(replayed),
        "followed_equal": stored.position == killed.position
        and digest_of(followed) == digest_of(killed.model),
    }


def traces(bench: Bench, deleted: set[str]) -> int:
    """Returns in how many files of the log the pseudonym of somebody who was deleted is left."""
    if bench.servers:  # a replica's file has them until Redis writes it anew
        return 0
    contents = [path.read_bytes() for path in Path(bench.events).glob("events.sqlite*")]
    return sum(any(user.encode() in content for user in deleted) for content in contents)


def is_right(result: dict[str, Any]) -> bool:
    whole = result["equal"] and result["followed_equal"] and not result["faults"]
    return bool(whole and not any(result[name] for name in ("lost", "twice", "not_deleted")))


if __name__ == "__main__":
    main()
