"""Files of a model after users were deleted: none names them, and nothing else is lost."""

import logging
import math
import threading

import numpy as np
import pytest
from msgspec.structs import replace

from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.rows import LoggedEvent
from reelseek.recommendation.events.schema import Deletion, sha256_of
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.files import FolderFiles
from reelseek.recommendation.learning.forgetting import Forgetting
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.learning.store import ModelReader, ModelStore
from reelseek.recommendation.personal import follower as followers
from reelseek.recommendation.personal.follower import ModelFollower
from reelseek.recommendation.redis_server import RedisServer, parse_address
from tests.recommendation.learning.learner import digest_of, new_model
from tests.recommendation.learning.streams import GUARD, Stream
from tests.recommendation.learning.test_learner import JOIN, Events
from tests.recommendation.redis_servers import needs_redis

HOUR = 3600.0


def name_of(user: str) -> str:
    return f"pseudonym-{user}-7c1f"


def log_with_deletions(num: int, *, num_deleted: int, seed: int = 0) -> tuple[Events, list[str]]:
    """Users are deleted here and there, and send nothing later."""
    log, rng = Events(num, seed=seed), np.random.default_rng(seed)
    deleted: dict[str, int] = {}
    for user in rng.choice(40, num_deleted, replace=False):
        deleted[str(user)] = int(rng.integers(num // 5, num))
    events = []
    for index, each in enumerate(log.events):
        for user in (user for user, at in deleted.items() if at == index):
            fields = {"event_id": f"d{user}", "time_seconds": 0.0}
            gone = Deletion(pseudonym_sha256=sha256_of(name_of(user)), **fields)
            events.append((each.received_seconds, gone))
        if index < deleted.get(each.event.user, num):
            renamed = replace(each.event, user=name_of(each.event.user))
            events.append((each.received_seconds, renamed))
    log.events = [LoggedEvent(n, at, event) for n, (at, event) in enumerate(events, 1)]
    return log, [name_of(user) for user in deleted]


def at_once(files: FolderFiles) -> Forgetting:
    return Forgetting(files, least_seconds=0.0, clock=lambda: 0.0)


def never(files: FolderFiles) -> Forgetting:
    return Forgetting(files, clock=lambda: math.nan)


def learner_of(log, folder, *, commit_events=30, snapshot_every=4, **options):
    store = ModelStore(folder, snapshot_every=snapshot_every, **options)
    store.forgetting = at_once(FolderFiles(folder))
    learner = Learner(log, store, model=new_model(), join=JOIN, commit_events=commit_events)
    return store, learner


def names_in(folder, names) -> set[str]:
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    return {name for name in names if name.encode() in content}


def gone_by(log, position) -> set[str]:
    """Users that were deleted up to a position."""
    hashes = {
        each.event.pseudonym_sha256
        for each in log.events[:position]
        if isinstance(each.event, Deletion)
    }
    users = {getattr(each.event, "user", None) for each in log.events} - {None}
    return {user for user in users if sha256_of(user) in hashes}


@pytest.mark.parametrize(("seed", "commit_events", "snapshot_every"), [(0, 7, 3), (1, 50, 64)])
def test_no_file_names_a_deleted_user(tmp_path, seed, commit_events, snapshot_every):
    log, deleted = log_with_deletions(900, num_deleted=12, seed=seed)
    options = {"commit_events": commit_events, "snapshot_every": snapshot_every}
    store, learner = learner_of(log, tmp_path / "a", **options)
    num_gone = 0
    with store:
        while learner.step():
            gone = gone_by(log, learner.position)
            num_gone = max(num_gone, len(gone))
            assert not names_in(tmp_path / "a", gone)
            assert not (tmp_path / "a" / "forgetting").exists()
    assert num_gone == len(deleted) == 12
    assert names_in(tmp_path / "a", {name_of(str(n)) for n in range(40)} - set(deleted))
    # What is learned is what is learned without looking at files.
    with ModelStore(tmp_path / "b") as whole:
        whole.forgetting = never(FolderFiles(tmp_path / "b"))
        other = Learner(log, whole, model=new_model(), join=JOIN, commit_events=1000)
        while other.step():
            pass
    assert digest_of(learner.model) == digest_of(other.model)
    model = new_model()
    assert ModelReader(tmp_path / "a").load(model).position == learner.position
    assert digest_of(model) == digest_of(other.model)


class Killed(BaseException):
    """As by `kill -9`: nothing is cleaned up."""


class MortalFiles(FolderFiles):
    """Dies before one of the writes and deletions."""

    def __init__(self, folder, num_left):
        super().__init__(folder)
        self.num_left = num_left

    def write(self, name, content):
        self._count()
        super().write(name, content)

    def delete(self, name):
        self._count()
        super().delete(name)

    def _count(self):
        self.num_left -= 1
        if self.num_left < 0:
            raise Killed


def test_a_kill_at_any_moment_loses_nothing(tmp_path):
    log, _ = log_with_deletions(300, num_deleted=4, seed=3)
    expected = learner_of(log, tmp_path / "whole")[1]
    while expected.step():
        pass
    assert list((tmp_path / "whole").glob(f"snapshot-*-{'0' * 12}.bin"))  # what may be gone back to
    for num_left in range(10**6):
        folder = tmp_path / str(num_left)
        store, learner = learner_of(log, folder)
        store._files = files = MortalFiles(folder, num_left)
        store.forgetting = at_once(files)
        try:
            while learner.step():
                pass
            store.close()
            break
        except Killed:
            store.close()
        found = ModelReader(folder).load(new_model())
        assert found.position <= learner.position
        store, learner = learner_of(log, folder)
        assert learner.position == found.position
        with store:
            learner.step()  # even where nothing is left to learn
            assert not names_in(folder, gone_by(log, learner.position))
            while learner.step():
                pass
        assert digest_of(learner.model) == digest_of(expected.model)
        assert not (folder / "forgetting").exists()
    assert num_left > 25


def test_many_deletions_cost_one_cleaning_a_minute(tmp_path):
    log, deleted = log_with_deletions(600, num_deleted=20)
    now = 0.0
    store, learner = learner_of(log, tmp_path, snapshot_every=10**6)
    store.forgetting = Forgetting(FolderFiles(tmp_path), clock=lambda: now)
    cleaned = []
    keep_alone = store._keep_alone
    store._keep_alone = lambda past: (cleaned.append(now), keep_alone(past))
    with store:
        while learner.step():
            now += 4.0
        assert (tmp_path / "forgetting").exists()
        assert names_in(tmp_path, deleted)
        now += 60.0
        assert learner.step() == 0  # nothing comes, and it is done all the same
        assert not names_in(tmp_path, deleted)
        before = sorted(tmp_path.iterdir())
        now += 999.0
        assert learner.step() == 0
        assert sorted(tmp_path.iterdir()) == before
    assert len(cleaned) >= 2
    assert min(np.diff(cleaned)) >= 60.0


def test_what_takes_long_is_done_less_often(tmp_path):
    now = 0.0
    forgetting = Forgetting(FolderFiles(tmp_path), clock=lambda: now)
    forgetting.note_deletion()
    with pytest.raises(OSError), forgetting.removing():
        raise OSError("the disk is full")
    assert forgetting.is_due and Forgetting(FolderFiles(tmp_path)).is_due
    with forgetting.removing():
        now = 10.0
    assert not Forgetting(FolderFiles(tmp_path)).is_due
    forgetting.note_deletion()
    now += 199.0
    assert not forgetting.is_due
    now += 1.0
    assert forgetting.is_due


def guarded(stream, folder, *, commit_events, repeated=None):
    """Returns a learner at the end of a stream.

    Args:
        repeated: a list to which go the positions of what is learned again, and of where that was.
    """
    store = ModelStore(folder, snapshot_every=3)
    store.forgetting = at_once(FolderFiles(folder))

    def facts_of(video: str) -> VideoFacts:
        if repeated is not None and learner.is_repeating:
            repeated.append((learner.learned_position, learner.position))
        return UNKNOWN_VIDEO

    options = {"commit_events": commit_events, "guard": GUARD, "facts_of": facts_of}
    learner = Learner(stream, store, model=OnlineModel(), **options)
    with store:
        while learner.step():
            pass
    return learner


def with_deletions(events, user, *, at):
    """A stream in which a user is deleted at some positions."""
    stream = Stream()
    for index, each in enumerate(events):
        if index in at:
            gone = Deletion(event_id="d", time_seconds=0, pseudonym_sha256=sha256_of(user))
            stream.add(gone, each.received_seconds)
        stream.add(each.event, each.received_seconds)
    return stream


def test_the_guard_goes_back_over_a_deletion_as_before(tmp_path):
    """Someone who has done nothing is deleted, so the bits must be those of going back to files."""
    stream = Stream().answers(3 * HOUR)
    begins = len(stream.events)
    stream.answers(0.6 * HOUR, flipped=True)
    at = {begins - 40, begins + 20, begins + 90}
    deleted = with_deletions(stream.events, "nobody", at=at)
    repeated = []
    found = guarded(deleted, tmp_path / "a", commit_events=160, repeated=repeated)
    assert not found.is_repeating and found.learned_position == found.position
    assert repeated and all(then < now for then, now in repeated)
    assert found.guard.num_freezes == 1
    good = found.guard.frozen.good_position
    assert good < begins + 60 and found.position > begins + 200  # further than a deletion
    # The same of a learner that cleans nothing, and of one that has learned no further.
    with ModelStore(tmp_path / "b") as store:
        store.forgetting = never(FolderFiles(tmp_path / "b"))
        other = Learner(deleted, store, model=OnlineModel(), commit_events=700, guard=GUARD)
        while other.step():
            pass
    assert digest_of(found.model) == digest_of(other.model)
    short = Stream()
    short.events = deleted.events[:good]
    model = guarded(short, tmp_path / "c", commit_events=700).model
    assert np.array_equal(found.model.dense_z, model.dense_z)


def test_the_guard_goes_back_to_a_state_without_the_user(tmp_path):
    stream = Stream().answers(3 * HOUR)
    begins = len(stream.events)
    stream.answers(0.6 * HOUR, flipped=True)
    victim = stream.events[begins - 50].event.user
    deleted = with_deletions(stream.events, victim, at={begins + 20})
    deleted.events = [
        each
        for index, each in enumerate(deleted.events)
        if index <= begins + 20 or getattr(each.event, "user", None) != victim
    ]
    deleted.events = [
        LoggedEvent(number, each.received_seconds, each.event)
        for number, each in enumerate(deleted.events, 1)
    ]
    learner = guarded(deleted, tmp_path, commit_events=70)
    assert learner.guard.frozen.good_position < begins + 20
    assert not names_in(tmp_path, [f'"{victim}"']) and victim.startswith("u")
    for path in tmp_path.glob("*.bin"):
        model = OnlineModel()
        ModelReader(tmp_path).load(model)
        keys = model.table.keys_of(range(model.table.num_used))
        assert not any(key is not None and victim in key for key in keys), path


def test_a_user_whose_events_the_log_has_deleted(tmp_path):
    """The service's log: with the deletion, the user's events are no longer there to be read."""
    clock = iter(np.arange(10**9, 2 * 10**9, 7.0))
    log = EventLog(tmp_path / "events", clock=lambda: float(next(clock)))
    given, _ = log_with_deletions(500, num_deleted=0)
    events = [each.event for each in given.events]
    for each in events:
        log.append([replace(each, time_seconds=1e9)])
    victims = [events[-1].user, events[250].user]
    store, learner = learner_of(log, tmp_path / "model")
    with store:
        while learner.step():
            pass
    assert names_in(tmp_path / "model", victims) == set(victims)
    for number, victim in enumerate(victims):
        assert log.delete_user(victim) > 0
        store, learner = learner_of(log, tmp_path / "model")  # its inputs were restored
        with store:
            while learner.step():
                pass
            assert not names_in(tmp_path / "model", victims[: number + 1])
    log.close()
    assert ModelReader(tmp_path / "model").load(new_model()).position == learner.position


@pytest.fixture
def look_at_once(monkeypatch):
    monkeypatch.setattr(followers, "_LOOK_SECONDS", 0.0)


def test_servers_go_over_without_an_error(tmp_path, look_at_once, caplog):
    """While they follow: one reads each commit, one some, one begins anew again and again."""
    caplog.set_level(logging.WARNING)
    log, _ = log_with_deletions(900, num_deleted=20)
    store, learner = learner_of(log, tmp_path, commit_events=12)
    seldom, problems, is_over = ModelFollower(tmp_path), [], threading.Event()

    def begin_anew() -> None:
        while not is_over.is_set():
            try:
                follower = ModelFollower(tmp_path)
                if not follower.poll():
                    problems.append("there is a model, and it is not found")
            except Exception as error:
                problems.append(error)

    often = ModelFollower(tmp_path)
    often.start()
    thread = threading.Thread(target=begin_anew)
    with store:
        learner.step()
        thread.start()
        number = 0
        while learner.step():
            number += 1
            if number % 7 == 0:
                seldom.poll()
        is_over.set()
        thread.join()
    often.close()
    for each in (often, seldom):
        while each.poll():
            pass
        assert digest_of(each.current.model) == digest_of(learner.model)
    assert not problems
    assert not caplog.records


def test_a_list_of_files_that_is_out_of_date_is_made_again(tmp_path):
    log, _ = log_with_deletions(300, num_deleted=3)
    store, learner = learner_of(log, tmp_path)
    files = FolderFiles(tmp_path)
    with store:
        learner.step()
        stale = files.names()
        while learner.step():
            pass
    assert not set(stale) & {path.name for path in tmp_path.glob("*.bin")}
    names, lists = files.names, [stale]
    files.names = lambda: lists.pop() if lists else names()
    model = new_model()
    assert ModelReader(files).load(model).position == learner.position
    assert digest_of(model) == digest_of(learner.model)
    # One that stays in the list and cannot be read is damaged.
    newest = max(name for name in names() if name.startswith("snapshot"))
    (tmp_path / newest).write_bytes(b"")
    assert ModelReader(files).load(new_model()).position > 0  # of the files before


@needs_redis
def test_what_is_published_names_no_deleted_user(pair, tmp_path, look_at_once, caplog):
    files = [RedisFiles(RedisServer(parse_address("publish", pair.url))) for _ in range(2)]
    log, deleted = log_with_deletions(400, num_deleted=6)
    store, learner = learner_of(log, tmp_path, commit_events=40, publish=files[0])
    caplog.set_level(logging.WARNING)
    follower, often = ModelFollower(files[1]), ModelFollower(files[1])
    often.start()
    with store:
        while learner.step():
            follower.poll()
            content = b""
            for name in files[1].names():
                assert not name.endswith("0" * 12 + ".bin")  # it is for the learner alone
                content += files[1].read(name)
            gone = gone_by(log, learner.position)
            assert not [name for name in gone if name.encode() in content]
            assert not names_in(tmp_path, gone)
    often.close()
    for each in (follower, often):
        while each.poll():
            pass
        assert digest_of(each.current.model) == digest_of(learner.model)
    assert gone == set(deleted)
    assert not caplog.records
    keys = pair.master.call("KEYS", "*")
    assert {key.split(":")[2] for key in keys if key.count(":") == 2} == {
        path.name for path in tmp_path.glob("*-*.bin") if not path.name.endswith("0" * 12 + ".bin")
    }
    for each in files:
        each.close()
