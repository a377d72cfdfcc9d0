"""Worker processes whose decoders are at fault: what is given up, what is kept, what is left."""

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import torch

from reelseek.vision import (
    DECODERS,
    DecodePool,
    FailedVideo,
    FrameSettings,
    MomentSampler,
    Preprocessing,
    UniformSampler,
    VideoEnd,
    WorkerLimits,
    iter_frames,
    start_decode_server,
)
from tests.vision import faulty

PROJECT = Path(__file__).resolve().parents[3]
GIGABYTE = 1 << 30
SMALL = Preprocessing(size=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)
LARGE = Preprocessing(size=(128, 128), mean=(0.0,) * 3, std=(1.0,) * 3)
LIMITS = WorkerLimits(timeout_seconds=2, memory_bytes=int(0.7 * GIGABYTE))
PATIENT = WorkerLimits(timeout_seconds=100)
ALL_FRAMES = list(range(faulty.NUM_FRAMES))

# What each fault is called where no decoder is left.
REASONS = {
    "sleep": "decord was stopped: it gave no frame for 2 seconds",
    "deaf": "decord was stopped: it gave no frame for 2 seconds",
    "segfault": "decord was stopped: it crashed (SIGSEGV)",
    "leave": "decord was stopped: it ended (3)",
    "grow": "decord was stopped: it needed more than 0.7 GB of memory",
    "burst": "decord was stopped: it failed unexpectedly (out of memory)",
    "error": "decord was stopped: it failed unexpectedly (ZeroDivisionError: of the decoder)",
    "refuse": "damaged beyond repair",
}


@dataclass
class Decoded:
    """What came of a video."""

    frames: list[int] = field(default_factory=list)  # by their pixels
    times_seconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    end: VideoEnd | FailedVideo | None = None


def settings(preprocessing=SMALL):
    return FrameSettings(UniformSampler(faulty.NUM_FRAMES), preprocessing)


def videos(folder, *names):
    """Names, and the paths of files by these names, which need hold nothing."""
    return [(name, folder / f"{name}.mp4") for name in names]


def collect(items):
    """Checks that nothing follows a video's end, and joins what came before."""
    decoded = {}
    for tag, item in items:
        video = decoded.setdefault(tag, Decoded())
        assert video.end is None, f"{tag} goes on after its end"
        if isinstance(item, FailedVideo):
            video.end = item
            continue
        video.frames += item.pixels[:, 0, 0, 0].tolist()
        video.times_seconds += item.times_seconds.tolist()
        video.rows += item.rows.tolist()
        video.end = item.end
    assert all(video.end is not None for video in decoded.values())
    return decoded


def decode(items, openers, *, limits=PATIENT, num_workers=2):
    with DecodePool(settings(), num_workers=num_workers, limits=limits, openers=openers) as pool:
        decoded = collect(pool.decode(items))
    assert decoded.keys() == {tag for tag, _ in items}
    return decoded


def assert_whole(video, *, decoder):
    """Each frame is there once, at its time."""
    assert video.frames == ALL_FRAMES
    assert video.rows == ALL_FRAMES
    assert video.times_seconds == [index / faulty.FPS for index in ALL_FRAMES]
    assert video.end == VideoEnd(10.0, decoder)


def wait_until(is_so, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)


def opened_by(path, decoder="decord"):
    """The process that has opened a file, when it has."""
    wait_until(faulty.noted(path, decoder).exists)
    return int(faulty.noted(path, decoder).read_text().split()[0])


def workers():
    """Processes that were forked for this one: the children of its children."""
    return [worker for child in psutil.Process().children() for worker in child.children()]


def is_gone(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(autouse=True)
def no_worker_is_left():
    yield
    wait_until(lambda: all(map(is_gone, workers())), seconds=10)


# All faults, among good videos, in two runs


def faulty_run(folder, openers):
    names = [name for fault in (*REASONS, "repeat") for name in (fault, f"{fault}-late")]
    names.remove("repeat")
    began = time.monotonic()
    items = videos(folder, "good-1", *names, "good-2")
    decoded = decode(items, openers, limits=LIMITS, num_workers=4)
    return decoded, time.monotonic() - began


@pytest.fixture(scope="module")
def one_at_fault(tmp_path_factory):
    return faulty_run(tmp_path_factory.mktemp("one"), faulty.first_faulty)


@pytest.fixture(scope="module")
def both_at_fault(tmp_path_factory):
    return faulty_run(tmp_path_factory.mktemp("both"), faulty.all_faulty)


@pytest.mark.parametrize("fault", REASONS)
def test_second_decoder_takes_over_from_the_beginning(one_at_fault, fault):
    assert_whole(one_at_fault[0][fault], decoder="pyav")


@pytest.mark.parametrize("fault", [*REASONS, "repeat"])
def test_second_decoder_goes_on_where_the_first_has_stopped(one_at_fault, fault):
    assert_whole(one_at_fault[0][f"{fault}-late"], decoder="pyav")


@pytest.mark.parametrize(("fault", "reason"), REASONS.items())
def test_video_that_no_decoder_reads_has_failed_for_the_reason_of_the_first(
    both_at_fault, fault, reason
):
    video = both_at_fault[0][fault]
    assert video.frames == []
    assert video.end == FailedVideo(reason)


@pytest.mark.parametrize(("fault", "reason"), REASONS.items())
def test_what_came_before_is_kept_where_no_decoder_goes_on(both_at_fault, fault, reason):
    video = both_at_fault[0][f"{fault}-late"]
    if fault == "refuse":  # a verdict, after which what was decoded is passed on
        assert video.frames == ALL_FRAMES[: faulty.LATE]
        assert video.end == VideoEnd(10.0, "decord", reason)
    else:
        assert video.frames == ALL_FRAMES[:32]  # the first chunk
        assert video.end == FailedVideo(reason, "decord")


def test_frame_that_is_repeated_for_others_is_not_taken_for_them(both_at_fault):
    video = both_at_fault[0]["repeat-late"]
    assert video.frames[: faulty.LATE] == ALL_FRAMES[: faulty.LATE]
    assert len(video.frames) <= faulty.LATE + 1
    assert "of 100 sampled frames cannot be decoded" in video.end.reason


@pytest.mark.parametrize("run", ["one_at_fault", "both_at_fault"])
def test_good_videos_are_done_and_the_run_ends_soon(run, request):
    decoded, seconds = request.getfixturevalue(run)
    for name in ("good-1", "good-2"):
        assert_whole(decoded[name], decoder="decord")
    # At most eight times two seconds without a frame, on four workers.
    assert seconds < 60


# Workers that end


@pytest.mark.parametrize("name", ["sleep", "sleep-late"])
def test_worker_that_is_killed_from_outside_does_not_stop_the_run(tmp_path, name):
    items = videos(tmp_path, name, "good-1", "good-2", "good-3")

    def kill():
        os.kill(opened_by(items[0][1]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    decoded = decode(items, faulty.first_faulty)
    killer.join()
    assert_whole(decoded.pop(name), decoder="pyav")
    for video in decoded.values():
        assert_whole(video, decoder="decord")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_do_not_hear_what_the_parent_is_to_hear(tmp_path, number):
    items = videos(tmp_path, "slow-1", "slow-2")

    def interrupt():
        for _, path in items:
            os.kill(opened_by(path), number)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    decoded = decode(items, faulty.first_faulty)
    interrupter.join()
    for video in decoded.values():
        assert_whole(video, decoder="decord")


SERVER_SCRIPT = """
import signal, sys, time
import psutil
from reelseek.vision import start_decode_server

if __name__ == "__main__":
    start_decode_server()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    servers = psutil.Process().children()
    for server in servers:
        server.send_signal(signal.SIGTERM)
        server.send_signal(signal.SIGHUP)
    time.sleep(1)
    names = [s for s in servers if s.is_running() and s.status() != psutil.STATUS_ZOMBIE]
    print(any("forkserver" in " ".join(server.cmdline()) for server in names))
"""


def test_server_hears_neither_sigterm_nor_sighup():
    command = [sys.executable, "-c", SERVER_SCRIPT]
    finished = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100)
    assert finished.stdout.split() == ["True"], finished.stderr


def test_server_loads_the_libraries_under_the_name_that_a_wheel_installs():
    start_decode_server()
    preloaded = multiprocessing.forkserver._forkserver._preload_modules
    assert "reelseek.vision.decoding.worker" in preloaded
    others = {name for name in preloaded if not name.startswith("reelseek.")}
    assert others == {"torchvision.transforms.v2"}  # which is not ours


def test_run_outlives_the_process_that_workers_are_forked_from(tmp_path):
    items = videos(tmp_path, "slow-1", "good-1", "good-2", "good-3")

    def kill():
        psutil.Process(opened_by(items[0][1])).parent().kill()

    killer = threading.Thread(target=kill)
    killer.start()
    decoded = decode(items, faulty.first_faulty)
    killer.join()
    for video in decoded.values():
        assert video.frames == ALL_FRAMES
        assert video.end.decoder in ("pyav", "decord")


# Workers that are replaced


def test_worker_is_replaced_after_its_number_of_videos(tmp_path):
    items = videos(tmp_path, *(f"good-{i}" for i in range(6)))
    limits = WorkerLimits(timeout_seconds=100, max_videos_per_worker=2)
    decode(items, faulty.all_good, limits=limits, num_workers=1)
    a, b, c, d, e, f = (opened_by(path) for _, path in items)
    assert (a, c, e) == (b, d, f)
    assert len({a, c, e}) == 3


def test_replacing_bounds_the_memory_of_workers_that_leak(tmp_path):
    items = videos(tmp_path, *(f"leak-{i}" for i in range(9)))  # 100 MB each
    limits = WorkerLimits(timeout_seconds=100, memory_bytes=GIGABYTE, max_videos_per_worker=3)
    decoded = decode(items, faulty.first_faulty, limits=limits, num_workers=1)
    for video in decoded.values():
        assert_whole(video, decoder="decord")
    memory = [int(faulty.noted(path, "decord").read_text().split()[1]) for _, path in items]
    fresh = memory[0]
    assert max(memory) < fresh + 300 * (1 << 20)  # 200 MB when the third video is opened
    assert memory[2] > fresh + 150 * (1 << 20)  # it does leak


def test_memory_that_others_have_leaked_is_not_held_against_a_video(tmp_path):
    items = videos(tmp_path, *(f"leak-{i}" for i in range(4)), "slow-1")  # 400 MB when it begins
    pool = DecodePool(
        settings(), num_workers=1, decoders=["decord"], limits=LIMITS, openers=faulty.first_faulty
    )
    with pool:
        decoded = collect(pool.decode(items))
    for video in decoded.values():
        assert_whole(video, decoder="decord")


def test_idle_worker_is_used_again(tmp_path):
    with DecodePool(settings(), num_workers=1, openers=faulty.all_good) as pool:
        for name in ("good-1", "good-2"):
            assert_whole(collect(pool.decode(videos(tmp_path, name)))[name], decoder="decord")
    assert opened_by(tmp_path / "good-1.mp4") == opened_by(tmp_path / "good-2.mp4")


# The caller


def test_what_a_real_decoder_reads_comes_through_as_it_is(write_video, tmp_path):
    path = write_video("a.mp4", [(i, 2 * i, 100) for i in range(100)])
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    expected = list(iter_frames(path, settings(), decoders=DECODERS))
    with DecodePool(settings(), num_workers=2) as pool:
        items = list(pool.decode([("a", path), ("broken", broken), ("none", tmp_path / "none")]))
    came = [item for tag, item in items if tag == "a"]
    assert len(came) == len(expected) == 4
    for got, wanted in zip(came, expected, strict=True):
        assert torch.equal(got.pixels, wanted.pixels)
        assert got.times_seconds.tolist() == wanted.times_seconds.tolist()
        assert got.end == wanted.end
    failed = {tag: item for tag, item in items if tag != "a"}
    assert failed["none"] == FailedVideo("no such file")
    assert isinstance(failed["broken"], FailedVideo) and failed["broken"].reason


def test_stopping_ends_decoding_though_a_worker_hangs(tmp_path):
    items, stopped = videos(tmp_path, "sleep", "sleep-1", "good-1"), threading.Event()

    def stop():
        opened_by(items[1][1])
        stopped.set()

    threading.Thread(target=stop).start()
    with DecodePool(settings(), num_workers=2, limits=PATIENT, openers=faulty.all_faulty) as pool:
        began = time.monotonic()
        assert list(pool.decode(items, stopped=stopped)) == []
        assert time.monotonic() - began < 60
        assert_whole(collect(pool.decode(items[2:]))["good-1"], decoder="decord")


def test_abandoned_decoding_leaves_nothing_for_the_next(tmp_path):
    items = videos(tmp_path, "slow-1", "slow-2", "slow-3")
    with DecodePool(settings(), num_workers=2, limits=PATIENT, openers=faulty.all_good) as pool:
        decoding = pool.decode(items)
        next(decoding)
        decoding.close()
        decoded = collect(pool.decode(videos(tmp_path, "good-1", "good-2")))
    assert decoded.keys() == {"good-1", "good-2"}
    for video in decoded.values():
        assert_whole(video, decoder="decord")


def test_time_that_the_caller_takes_is_not_the_workers(tmp_path):
    """Each waits with frames for the caller, behind a full pipe or with the first of them."""
    items = videos(tmp_path, "good-1", "start_slowly", "good-2", "good-3")
    limits = WorkerLimits(timeout_seconds=1.5)
    num_items = 0

    def slowly(items):
        nonlocal num_items
        for item in items:
            yield item
            num_items += 1
            if num_items < 4:
                time.sleep(1.8)

    with DecodePool(
        settings(LARGE), num_workers=2, limits=limits, openers=faulty.first_faulty
    ) as pool:
        decoded = collect(slowly(pool.decode(items)))
    assert decoded.keys() == {tag for tag, _ in items}
    for video in decoded.values():
        assert_whole(video, decoder="decord")


def test_exception_of_the_caller_leaves_no_process(tmp_path):
    pool = DecodePool(settings(), num_workers=2, limits=PATIENT, openers=faulty.all_faulty)
    with pytest.raises(LookupError), pool:
        for _ in pool.decode(videos(tmp_path, "good-1", "sleep")):
            raise LookupError
    wait_until(lambda: all(map(is_gone, workers())), seconds=10)


_PARENT = """
import sys
from pathlib import Path
from tests.vision import faulty
from tests.vision.decoding.test_pool import PATIENT, settings, videos
from reelseek.vision import DecodePool

if __name__ == "__main__":
    names = ["sleep", "deaf", "good-1"]
    with DecodePool(settings(), num_workers=2, limits=PATIENT, openers=faulty.all_faulty) as pool:
        list(pool.decode(videos(Path(sys.argv[1]), *names)))
"""


def test_workers_do_not_outlive_a_parent_that_is_killed(tmp_path):
    parent = psutil.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    family = []
    try:
        hanging = {opened_by(tmp_path / name) for name in ("sleep.mp4", "deaf.mp4")}
        family = parent.children(recursive=True)
        assert hanging <= {process.pid for process in family}
        parent.kill()
        parent.wait()
        wait_until(lambda: all(map(is_gone, family)), seconds=20)
    finally:
        for process in (parent, *family):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.mark.shared
def test_odd_files_come_through_in_one_run(shared_data):
    """201 files as the world makes them: the manifest says from which FFmpeg decodes a frame."""
    lines = (shared_data / "odd" / "MANIFEST.tsv").read_text("utf-8").splitlines()
    column = next(i for i, name in enumerate(lines[0].split("\t")) if name.startswith("decodable"))
    rows = [line.split("\t") for line in lines[1:]]
    promised = {row[0]: int(row[column] or 0) > 0 for row in rows}
    promised["made/webp_anim.webp"] = True  # Pillow reads what FFmpeg does not
    uniform = FrameSettings(UniformSampler(8), SMALL)
    with DecodePool(uniform, limits=PATIENT) as pool:
        decoded = collect(pool.decode((name, shared_data / "odd" / name) for name in promised))
    assert decoded.keys() == promised.keys()
    assert {name: bool(video.times_seconds) for name, video in decoded.items()} == promised
    for name, video in decoded.items():
        is_failed = isinstance(video.end, FailedVideo)
        assert is_failed != promised[name]
        assert video.end.reason or not is_failed
        assert "pyav was stopped" not in video.end.reason  # decord may crash, and PyAV goes on


def test_each_video_may_have_a_sampler_of_its_own(tmp_path):
    """Also in a worker that takes over."""
    paths = {name: tmp_path / f"{name}.mp4" for name in ("good", "other", "segfault-late")}
    for path in paths.values():
        path.touch()
    moments = {"good": (1.0, 2.0), "other": (0.0,), "segfault-late": (1.0, 5.0, 6.0)}
    seconds = {name: [] for name in paths}
    with DecodePool(settings(), num_workers=2, limits=PATIENT, openers=faulty.first_faulty) as pool:
        videos = [*paths.items()]
        sampler_of = {name: MomentSampler(some) for name, some in moments.items()}.__getitem__
        for name, frames in pool.decode(videos, sampler_of=sampler_of):
            seconds[name] += frames.times_seconds.tolist()
    assert seconds == {name: list(some) for name, some in moments.items()}
