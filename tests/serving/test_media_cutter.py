"""Workers that hang, crash or swell; what is kept on disk, and what is not."""

import errno
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from reelseek.serving.media import cache as cache_module
from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.errors import MediaBusy, MediaUnreadable
from reelseek.serving.media.pool import CutPool, PoolLimits
from reelseek.serving.media.requests import BrowserClip, MediaFile, Probe, Thumbnail
from tests.serving.media_files import cut_or_fail, processes

PLENTY = 1 << 30


@pytest.fixture
def pools():
    """Makes pools, and ends their workers."""
    made = []

    def make(num_workers=1, **limits):
        pool = CutPool(PoolLimits(num_workers=num_workers, **limits), cut=cut_or_fail)
        made.append(pool)
        return pool

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def cutter_of(pools, tmp_path):
    def make(pool=None, *, timeout_seconds=20.0, cache=None, **options):
        cache = cache or MediaCache(tmp_path / "cache", max_bytes=PLENTY)
        pool = pool or pools()
        return MediaCutter(cache, pool, pool, timeout_seconds=timeout_seconds, **options)

    return make


def file_of(tmp_path, name, *, sha256=""):
    return MediaFile(str(tmp_path / name), 10, 10, sha256 or f"sha-of-{name}")


def thumbnail_of(tmp_path, name, seconds=1.0, **values):
    return Thumbnail(file_of(tmp_path, name, **values), seconds, 320)


def test_hanging_decoder_is_killed_and_others_go_on(cutter_of, pools, tmp_path):
    cutter = cutter_of(pools(2), timeout_seconds=2.0)
    with ThreadPoolExecutor(2) as threads:  # both workers have started
        slow = [thumbnail_of(tmp_path, "slow.mp4", number) for number in range(2)]
        list(threads.map(cutter.thumbnail, slow))
    with ThreadPoolExecutor(1) as threads:
        hung = threads.submit(cutter.thumbnail, thumbnail_of(tmp_path, "sleep.mp4"))
        while not processes(tmp_path / "sleep.mp4"):
            time.sleep(0.01)
        for number in range(5):
            assert cutter.thumbnail(thumbnail_of(tmp_path, f"good{number}.mp4"))
        assert not hung.done()
        with pytest.raises(MediaUnreadable, match="took over 2 seconds"):
            hung.result()
    (killed,) = processes(tmp_path / "sleep.mp4")
    assert not psutil.pid_exists(killed)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("crash.mp4", "crashed"), ("swell.mp4", "needs too much memory")],
)
def test_video_that_kills_its_workers_is_refused_for_a_while(
    cutter_of, pools, tmp_path, name, reason
):
    cutter = cutter_of(pools(memory_bytes=700 << 20), refused_seconds=0.8)
    request = thumbnail_of(tmp_path, name)
    for _ in range(2):
        with pytest.raises(MediaUnreadable, match=reason):
            cutter.thumbnail(request)
    refused_from = time.monotonic()
    if name == "crash.mp4":  # which takes no time
        with pytest.raises(MediaUnreadable, match="not tried again"):
            cutter.thumbnail(request)
        assert len(processes(tmp_path / name)) == 2
    assert cutter.thumbnail(thumbnail_of(tmp_path, "good.mp4")) == b"good"
    time.sleep(max(0.0, 0.85 - (time.monotonic() - refused_from)))
    with pytest.raises(MediaUnreadable, match=reason):
        cutter.thumbnail(request)
    assert len(set(processes(tmp_path / name))) == 3


def test_two_who_ask_for_the_same_wait_for_one_cut(cutter_of, pools, tmp_path):
    cutter = cutter_of(pools(4))
    request = thumbnail_of(tmp_path, "slow.mp4")
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(cutter.thumbnail, [request] * 8)) == {b"slow"}
    assert len(processes(tmp_path / "slow.mp4")) == 1
    assert cutter.thumbnail(request) == b"slow"  # from the disk
    assert len(processes(tmp_path / "slow.mp4")) == 1
    cutter.thumbnail(thumbnail_of(tmp_path, "slow.mp4", 2.0))
    assert len(processes(tmp_path / "slow.mp4")) == 2


def test_who_comes_when_too_many_wait_is_sent_away(pools, tmp_path):
    pool = pools(max_waiting=1, max_wait_seconds=30)
    pool.run(thumbnail_of(tmp_path, "good.mp4"), timeout_seconds=20)  # it has started
    with ThreadPoolExecutor(3) as threads:
        requests = [thumbnail_of(tmp_path, "slow.mp4", number) for number in range(3)]
        asked = [threads.submit(pool.run, each, timeout_seconds=20) for each in requests]
        errors = [each.exception() for each in asked]
    assert [type(error) for error in errors if error] == [MediaBusy]
    impatient = pools(max_wait_seconds=0.1)
    impatient.run(thumbnail_of(tmp_path, "good.mp4"), timeout_seconds=20)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(impatient.run, each, timeout_seconds=20) for each in requests[:2]]
        errors = [each.exception() for each in asked]
    assert [type(error) for error in errors if error] == [MediaBusy]


def test_worker_is_replaced_before_its_decoders_have_leaked_much(pools, tmp_path):
    pool = pools(max_cuts=2)
    for number in range(4):
        pool.run(thumbnail_of(tmp_path, "good.mp4", number), timeout_seconds=20)
    first, second, third, fourth = processes(tmp_path / "good.mp4")
    assert first == second != third == fourth
    psutil.Process(fourth).kill()
    psutil.wait_procs([psutil.Process(fourth)] if psutil.pid_exists(fourth) else [], timeout=5)
    assert pool.run(thumbnail_of(tmp_path, "good.mp4"), timeout_seconds=20) == b"good"


def test_clip_is_a_path_or_its_content_where_the_disk_takes_none(
    cutter_of, tmp_path, monkeypatch, caplog
):
    cutter = cutter_of()
    clip = BrowserClip(file_of(tmp_path, "good.mp4"), 1.0, 2.0)
    made = cutter.clip(clip)
    assert made.read_bytes() == b"good" and cutter.clip(clip) == made

    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module, "write_atomically", full)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            assert cutter.thumbnail(thumbnail_of(tmp_path, "good.mp4", number)) == b"good"
            assert cutter.clip(BrowserClip(clip.file, 1.0, 3.0 + number)) == b"good"
    assert [record.getMessage() for record in caplog.records] == [
        "thumbnails and clips are not kept: No space left on device"
    ]


def test_folder_that_cannot_be_made_keeps_nothing(cutter_of, tmp_path):
    (tmp_path / "file").write_text("")
    cutter = cutter_of(cache=MediaCache(tmp_path / "file" / "cache", max_bytes=PLENTY))
    request = thumbnail_of(tmp_path, "good.mp4")
    assert [cutter.thumbnail(request) for _ in range(2)] == [b"good"] * 2
    assert len(processes(tmp_path / "good.mp4")) == 2


def test_probes_are_kept(cutter_of, tmp_path):
    cutter = cutter_of()
    request = Probe(file_of(tmp_path, "good.mp4"))
    assert [cutter.probe(request) for _ in range(2)] == [b"good"] * 2
    assert len(processes(tmp_path / "good.mp4")) == 1


def test_least_recently_used_goes_first(tmp_path):
    cache = MediaCache(tmp_path, max_bytes=1000)
    for number in range(10):
        path = cache.put(f"{number}{number}.jpg", bytes(100))
        os.utime(path, (number + 1, number + 1))
    assert cache.read("00.jpg") == bytes(100)  # used now
    assert cache.put("big.jpg", bytes(1001)) is None
    newest = cache.put("ff.jpg", bytes(150))
    left = sorted(path.name for path in tmp_path.rglob("*.jpg"))
    assert left == ["00.jpg", *(f"{n}{n}.jpg" for n in range(4, 10)), "ff.jpg"]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 900
    assert cache.find("ff.jpg") == newest and cache.find("11.jpg") is None


def test_what_earlier_processes_kept_counts(tmp_path):
    for number in range(8):
        MediaCache(tmp_path, max_bytes=PLENTY).put(f"{number}{number}.jpg", bytes(100))
    cache = MediaCache(tmp_path, max_bytes=500)
    cache.put("ff.jpg", bytes(100))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 450
    assert cache.find("ff.jpg")


def test_threads_may_fill_it_together(tmp_path):
    cache = MediaCache(tmp_path, max_bytes=5000)
    stop = threading.Event()
    torn = []

    def read():
        while not stop.is_set():
            for number in range(40):
                content = cache.read(f"{number:02}.jpg")
                if content not in (None, bytes([number]) * 200):
                    torn.append(number)

    with ThreadPoolExecutor(3) as threads:
        reader = threads.submit(read)
        list(threads.map(lambda n: cache.put(f"{n:02}.jpg", bytes([n]) * 200), range(40)))
        stop.set()
        reader.result()
    assert not torn
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 5000
