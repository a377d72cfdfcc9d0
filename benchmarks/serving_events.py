"""Events a second that the log acknowledges, by several processes, and how long a caller waits.

    python -m benchmarks.serving_events [folder=.] [seconds=5] [num_processes=2]

Each caller waits for one request before it sends the next. The last lines are what readers and the
deletion of a user take.
"""

import multiprocessing
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import numpy as np

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Play

_USERS = [f"user-{number:05}-{uuid.uuid4().hex[:12]}" for number in range(1000)]


def main(folder: str = ".", seconds: float = 5.0, num_processes: int = 2) -> None:
    print("batch  callers  events/s  median ms  p99 ms  max ms")
    with tempfile.TemporaryDirectory(dir=folder) as parent:
        for number, (batch, callers) in enumerate([(1, 1), (1, 16), (50, 1), (50, 16)]):
            events = Path(parent) / f"{number}"
            waits_ms = measure(
                events, seconds=seconds, num_processes=num_processes, batch=batch, callers=callers
            )
            rate = batch * len(waits_ms) / seconds
            median, p99, longest = np.percentile(waits_ms, [50, 99, 100])
            print(f"{batch:5}  {callers:7}  {rate:8.0f}  {median:9.2f}  {p99:6.1f}  {longest:6.0f}")
        measure_reading(events)


def measure(
    folder: Path, *, seconds: float, num_processes: int, batch: int, callers: int
) -> np.ndarray:
    """Returns how long each call waited, in ms.

    Args:
        callers: threads of each process.
    """
    context = multiprocessing.get_context("spawn")
    waits: multiprocessing.Queue = context.Queue()
    barrier = context.Barrier(num_processes)
    processes = [
        context.Process(target=_write, args=(folder, barrier, waits, seconds, batch, callers))
        for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    found = np.concatenate([waits.get() for _ in processes])
    for process in processes:
        process.join()
    return found


def _write(
    folder: Path,
    barrier: threading.Barrier,
    waits: multiprocessing.Queue,
    seconds: float,
    batch: int,
    callers: int,
) -> None:
    log = EventLog(folder)
    log.append([])
    found: list[float] = []
    barrier.wait()
    end = time.perf_counter() + seconds

    def call() -> None:
        while time.perf_counter() < end:
            events = [_event() for _ in range(batch)]
            started = time.perf_counter()
            log.append(events)
            found.append(1000 * (time.perf_counter() - started))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    waits.put(np.array(found))


def _event() -> Play:
    return Play(
        event_id=str(uuid.uuid4()),
        time_seconds=time.time(),
        user=_USERS[uuid.uuid4().int % len(_USERS)],
        session=uuid.uuid4().hex[:12],
        request_id=uuid.uuid4().hex[:16],
        video=uuid.uuid4().hex[:12],
        start_seconds=12.0,
        end_seconds=18.5,
        position=3,
        surface="search",
        watched_seconds=6.5,
    )


def measure_reading(folder: Path) -> None:
    log = EventLog(folder)
    started, num_events, position, user = time.perf_counter(), 0, 0, ""
    while found := log.read(after=position):
        num_events += len(found)
        position, user = found[-1].log_position, str(found[-1].event.user)
    seconds = time.perf_counter() - started
    size_bytes = sum(path.stat().st_size for path in folder.iterdir())
    print(f"reading: {num_events / seconds:.0f} events/s; {size_bytes / num_events:.0f} bytes each")
    started = time.perf_counter()
    num_deleted = log.delete_user(user)
    seconds = time.perf_counter() - started
    print(f"deletion of {num_deleted} of {num_events} events: {1000 * seconds:.0f} ms")
    log.close()


if __name__ == "__main__":
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    main(
        given.get("folder", "."),
        float(given.get("seconds", 5.0)),
        int(given.get("num_processes", 2)),
    )
