"""New indexes whose runs are killed at random moments, by a process that forks them.

    python -m tests.indexing.killed_runs < {"videos": DIR, "work": DIR, "parts": [0.3], "shards": 1}

For each part of an unbroken run's time, after which one is killed, and for one that is killed when
the first videos are counted, a line of JSON: what was wrong, in words, and how many videos were
counted. Further lines of input are further tasks, each with a folder of its own to work in.
"""

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reelseek.indexing.building.run
import reelseek.indexing.pipeline
from reelseek.indexing import IndexSettings, Manifest, update_index
from reelseek.indexing.shards.opening import IndexEmbeddings, open_catalogue
from reelseek.indexing.sources.collection import read_source
from reelseek.vision import DualEncoder, FrameEncoder, FrameSettings, ModelSpec, Preprocessing
from tests.conftest import ColourClip, InProcessPool, tokenize_colours
from tests.indexing.conftest import SAMPLER

_NUM_PARALLEL = 3  # videos that are decoded at a time
_BATCH_SECONDS = 0.01
_LAST_SECONDS = 0.4  # of which frames may be encoded again; a minute's run is 2 seconds here
_PREPROCESSING = Preprocessing((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_SETTINGS = IndexSettings(
    model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
    fingerprint="c0105" * 6,
    embedding_dim=3,
    sampling={"kind": "interval", "every_seconds": 0.5, "min_frames": 1, "max_frames": 100_000},
    segments={"kind": "scenes", "seconds": 4.0, "overlap_seconds": 2.0},
)


class InterleavingPool(InProcessPool):
    """Decodes several videos in turn, as workers do."""

    def decode(self, videos: Iterable[Any], **options: Any) -> Iterator[Any]:
        left, active = iter(videos), []
        while True:
            while len(active) < _NUM_PARALLEL and (video := next(left, None)) is not None:
                active.append(super().decode([video], **options))
            if not active:
                return
            for one in list(active):
                item = next(one, None)
                if item is None:
                    active.remove(one)
                else:
                    yield item


class SlowEncoder(FrameEncoder):
    def _encode_batch(self, pixels: torch.Tensor) -> torch.Tensor:
        time.sleep(_BATCH_SECONDS)
        return super()._encode_batch(pixels)


def main() -> None:
    is_loaded = False
    for line in sys.stdin:
        task = json.loads(line)
        if not is_loaded:
            _load_libraries(Path(task["videos"]))
            is_loaded = True
        _in_fork(lambda task=task: _kill_runs(task))


def _in_fork(action: Callable[[], None]) -> None:
    """Leaves this process, which will fork again, without threads and without what it opens."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, "a task has failed"


def _load_libraries(videos: Path) -> None:
    """Loads those of decoding, which takes longer than a run, before they are forked; with one
    thread, as others do not outlive that."""
    torch.set_num_threads(1)
    pool = InProcessPool(FrameSettings(SAMPLER, _PREPROCESSING))
    for _ in pool.decode([("first", min(videos.iterdir()))]):
        pass


def _kill_runs(task: dict[str, Any]) -> None:
    videos, work = task["videos"], Path(task["work"])
    whole = work / "whole"
    started = time.monotonic()
    num_shards = task["shards"]
    log = _run(whole, videos, work / "log", num_shards)
    whole_seconds = time.monotonic() - started
    totals = _encoded(log)
    expected = _frames(whole)
    for part in [*task["parts"], None]:
        index = work / "index"
        shutil.rmtree(index, ignore_errors=True)
        wait = partial(_wait_for_count, work / "log")
        if part is not None:
            wait = partial(time.sleep, part * whole_seconds)
        began = time.monotonic()
        first = _run(
            *(index, videos, work / "log", num_shards),
            wait_and_kill=wait,
            stays_at_count=part is None,
        )
        delay = first[-1][1] - began
        second = _run(index, videos, work / "log", num_shards)
        wrong = _problems(first, second, totals)
        if not _same_frames(_frames(index), expected):
            wrong.append("the frames of the index differ from those of an unbroken run")
        counted = len(_counted(first))
        print(json.dumps({"wrong": wrong, "counted": counted, "delay": delay}), flush=True)


def _run(
    index: Path,
    videos: str,
    log: Path,
    num_shards: int,
    *,
    wait_and_kill: Callable[[], None] | None = None,
    stays_at_count: bool = False,
) -> list[list]:
    """Indexes in a fork, which is killed after waiting; returns what it has noted.

    Args:
        stays_at_count: goes on with nothing once the first videos are counted, so that a kill comes
            before the next are, however late.
    """
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(2)
            _note_to(log, stays_at_count=stays_at_count)
            model = DualEncoder(
                ModelSpec("colours"),
                ColourClip().eval(),
                tokenize_colours,
                8,
                3,
                _PREPROCESSING,
                _SETTINGS.fingerprint,
            )
            encoder = SlowEncoder(model, device="cpu", precision="fp32")
            pool = InterleavingPool(FrameSettings(SAMPLER, _PREPROCESSING))
            update_index(
                index,
                [read_source(videos)],
                settings=_SETTINGS,
                encoder=encoder,
                pool=pool,
                num_shards=num_shards,
                show_progress=False,
            )
            os._exit(0)
        finally:
            os._exit(1)
    if wait_and_kill is not None:
        wait_and_kill()
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert wait_and_kill is not None or status == 0, "a run that was not killed has failed"
    lines = log.read_text().splitlines() if log.exists() else []
    entries = [json.loads(line) for line in lines]
    return [*entries, ["end", time.monotonic(), None]]


def _note_to(path: Path, *, stays_at_count: bool) -> None:
    """Has the indexer note the frames that go to the encoder, and the videos that are counted."""
    file = path.open("ab", buffering=0)
    taken: list[str] = []

    def note(what: str, value: Any) -> None:
        file.write(json.dumps([what, time.monotonic(), value]).encode() + b"\n")

    def before(owner: type, name: str, action: Callable[[Any, tuple], None]) -> None:
        original = getattr(owner, name)

        def patched(self: Any, *arguments: Any, **options: Any) -> Any:
            action(self, arguments)
            return original(self, *arguments, **options)

        setattr(owner, name, patched)

    def note_batch(packer: Any, _: tuple) -> None:
        if packer._parts:
            note("encode", [(video.tag.item.key, len(part)) for video, part in packer._parts])

    def note_counted(_: Any, __: tuple) -> None:
        note("count", list(taken))
        taken.clear()

    before(reelseek.indexing.pipeline._Packer, "flush", note_batch)
    before(
        reelseek.indexing.building.run.Run,
        "_take",
        lambda _, video: taken.append(video[0].tag.item.key),
    )
    before(reelseek.indexing.building.run.Run, "_count", note_counted)
    if stays_at_count:
        _stay_after(reelseek.indexing.building.run.Run, "_count")


def _stay_after(owner: type, name: str) -> None:
    original = getattr(owner, name)

    def patched(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        time.sleep(3600)

    setattr(owner, name, patched)


def _wait_for_count(log: Path) -> None:
    """Waits until some videos are counted, which is in the middle of a run, however fast it is."""
    while not log.exists() or b'"count"' not in log.read_bytes():
        time.sleep(0.01)


def _encoded(entries: list[list], *, since: float = 0.0) -> Counter[str]:
    """The frames of each video that went to the encoder."""
    frames: Counter[str] = Counter()
    for what, at, value in entries:
        if what == "encode" and at >= since:
            for key, num_frames in value:
                frames[key] += num_frames
    return frames


def _counted(entries: list[list]) -> set[str]:
    return {key for what, _, keys in entries if what == "count" for key in keys}


def _problems(first: list[list], second: list[list], totals: Counter[str]) -> list[str]:
    before, after = _encoded(first), _encoded(second)
    late = _encoded(first, since=first[-1][1] - _LAST_SECONDS)
    wrong = []
    for key, total in totals.items():
        again = before[key] + after[key] - total
        if key in _counted(first) and after[key]:
            wrong.append(f"{key} was counted, and {after[key]} frames are encoded again")
        if again > late[key] or again < 0:
            wrong.append(f"{again} frames of {key} are encoded again, {late[key]} of them are late")
    return wrong


def _frames(index: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The times and embeddings of each video's frames."""
    catalogue = open_catalogue(index)
    embeddings = IndexEmbeddings(index, Manifest.read(index))
    found = {}
    for record in catalogue.scan():
        assert record.location is not None
        rows = embeddings.of(record).read_run(*record.location, record.num_rows)
        found[record.key] = record.frame_times, rows[1 + len(record.spans) :]
    catalogue.close()
    return found


def _same_frames(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[key][0], times) and np.allclose(found[key][1], rows, atol=1e-3)
        for key, (times, rows) in expected.items()
    )


if __name__ == "__main__":
    main()
