"""The files of a model in a Redis server, and a learner that publishes them there."""

import json
import random
import threading
import time

import pytest

from reelseek.configs import command_line
from reelseek.configs.learning_schema import LearnConfig
from reelseek.recommendation import learn
from reelseek.recommendation.events.opening import open_log
from reelseek.recommendation.learning.files import EpochEnded
from reelseek.recommendation.learning.publishing import Publisher
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.learning.status import PublishedStatus, StatusWriter, read_status
from reelseek.recommendation.learning.store import (
    LeaseLost,
    ModelReader,
    ModelStore,
    Stored,
)
from reelseek.recommendation.personal.follower import ModelFollower
from reelseek.recommendation.redis_server import RedisServer, RedisUnavailable, parse_address
from tests.recommendation.learning.event_sender import impressions_of, outcomes_of
from tests.recommendation.learning.learner import digest_of, new_model
from tests.recommendation.learning.test_learner import JOIN, Events, Learner
from tests.recommendation.redis_servers import needs_redis, wait_until

pytestmark = needs_redis
PARTS = 1 << 20


@pytest.fixture
def files(pair):
    files = files_of(pair)
    yield files
    files.close()


def files_of(pair) -> RedisFiles:
    return RedisFiles(RedisServer(parse_address("publish", pair.url), wait_ms=2500))


@pytest.mark.parametrize("size", [0, 1, PARTS - 1, PARTS, PARTS + 1, 9 * PARTS])
def test_files_come_back_as_they_were(files, pair, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    files.begin(1)
    files.write("snapshot", content, epoch=1)
    assert files.read("snapshot") == content
    assert set(files.names()) == {"epoch", "snapshot"}
    files.delete(["snapshot", "other"], epoch=1)
    assert files.names() == ["epoch"]
    with pytest.raises(FileNotFoundError):
        files.read("snapshot")
    assert pair.master.call("KEYS", "*") == ["reelseek:model"]


def test_an_earlier_epoch_is_refused(files, pair):
    files.begin(3)
    files.write("kept", b"a", epoch=3)
    other = files_of(pair)
    other.begin(5)
    for write in (
        lambda: files.write("more", b"b", epoch=3),
        lambda: files.delete(["kept"], epoch=3),
        lambda: files.begin(3),
    ):
        with pytest.raises(EpochEnded, match="epoch 5 has begun, this one is 3"):
            write()
    assert set(files.names()) == {"epoch", "kept"}
    assert files.read("epoch") == b"5"
    other.close()


def test_a_file_that_is_half_written_is_none(files, pair):
    files.begin(1)
    call, parts = files._server.call_replicated, []

    def fail_at_the_third(*command):
        parts.append(command)
        if len(parts) == 3:
            raise RedisUnavailable("killed here")
        return call(*command)

    files._server.call_replicated = fail_at_the_third
    with pytest.raises(RedisUnavailable):
        files.write("snapshot", bytes(3 * PARTS), epoch=1)
    assert files.names() == ["epoch"]
    (left,) = pair.master.call("KEYS", "reelseek:model:*")
    assert pair.master.call("TTL", left) > 0


def test_what_a_learner_says_is_gone_after_a_while(files, pair):
    assert files.read_status() is None
    files.begin(3)
    files.write_status(b"{}", epoch=3, kept_seconds=40)
    files.write_status(b"[1]", epoch=3, kept_seconds=20)
    content, left_seconds = files.read_status()
    assert content == b"[1]" and 15 < left_seconds <= 20
    assert files.names() == ["epoch"]  # it is no file of the model
    files_of(pair).begin(4)
    with pytest.raises(EpochEnded, match="epoch 4 has begun"):
        files.write_status(b"{}", epoch=3, kept_seconds=20)
    assert files.read_status()[0] == b"[1]"
    files.write_status(b"{}", epoch=4, kept_seconds=0.05)
    wait_until(lambda: files.read_status() is None)


def test_servers_are_told_how_far_a_learner_is(files, pair, tmp_path):
    """Whether it runs is by the server's count of seconds: the learner's clock is wrong here."""
    store = ModelStore(tmp_path, publish=files)
    learner = Learner(Events(300), store, model=new_model(), join=JOIN)
    now = 5.0
    said = PublishedStatus(files_of(pair), clock=lambda: now)
    said.look()
    assert said.current is None
    writer = StatusWriter(
        tmp_path, publish=store.publish_status, clock=lambda: 1e9 + learner.position
    )
    learner.step()
    writer.note(learner, 1)
    said.look()
    assert said.current == {**read_status(tmp_path), "runs": True}
    assert (said.current["position"], said.current["lag_events"]) == (300, 0)
    now += 29
    assert said.current["runs"]
    now += 2
    assert not said.current["runs"]  # it died, and what it said last is known
    assert said.current["position"] == 300
    pair.master.call("DEL", "reelseek:model_status")
    said.look()
    assert not said.current["runs"]

    other = files_of(pair)
    other.begin(2)
    with pytest.raises(LeaseLost, match="epoch 2 has begun, this one is 1"):
        store.publish_status(b"{}", 30.0)
    pair.master.call("SET", "reelseek:model_status", b"nothing")
    said.look()
    assert said.current["position"] == 300
    store.close()


def test_a_server_that_is_away_keeps_neither_the_learner_nor_the_servers(tmp_path):
    class Away:
        num_asked = 0

        def begin(self, epoch):
            pass

        def write_status(self, content, *, epoch, kept_seconds):
            self.num_asked += 1
            raise RedisUnavailable("away")

        def read_status(self):
            raise RedisUnavailable("away")

    now, away = 0.0, Away()
    publisher = Publisher(None, away, wanted=list, clock=lambda: now)
    for _ in range(3):
        publisher.publish_status(b"{}", kept_seconds=30)
    assert away.num_asked == 1
    now = 5.0
    publisher.publish_status(b"{}", kept_seconds=30)
    assert away.num_asked == 2
    said = PublishedStatus(away)
    said.look()
    assert said.current is None
    said.close()


def learner_of(log, folder, files) -> Learner:
    store = ModelStore(folder, snapshot_every=4, publish=files)
    return Learner(log, store, model=new_model(), join=JOIN, commit_events=50)


def test_two_servers_follow_a_learner(files, pair, tmp_path):
    """Both have each commit within 3 seconds, and end with the learner's bits."""
    learner = learner_of(Events(1500), tmp_path, files)
    followers = [ModelFollower(files_of(pair)) for _ in range(2)]
    for each in followers:
        each.start()
    longest = 0.0
    while learner.step():
        started = time.monotonic()
        wait_until(
            lambda: all(
                each.current is not None and each.current.position == learner.position
                for each in followers
            )
        )
        longest = max(longest, time.monotonic() - started)
    assert longest < 3
    for each in followers:
        each.close()
        assert digest_of(each.current.model) == digest_of(learner.model)
    names = {name for name in files.names() if name != "epoch"}
    assert names == {path.name for path in tmp_path.glob("*.bin")}


def test_a_partition_heals_without_loss(files, pair, tmp_path):
    """The learner goes on, and so do servers with what they have."""
    learner = learner_of(Events(1000), tmp_path, files)
    follower = ModelFollower(files_of(pair))
    learner.step()
    follower.poll()
    position = follower.current.position
    assert position == learner.position
    pair.replica.kill()
    for _ in range(12):  # several snapshots
        learner.step()
    assert learner.position > position
    pair.start_replica()

    def is_published() -> bool:
        learner._store.publish()
        return {name for name in files.names() if name != "epoch"} == {
            path.name for path in tmp_path.glob("*.bin")
        }

    wait_until(is_published)
    follower._next_look_at = 0
    while follower.poll():
        follower._next_look_at = 0
    assert follower.current.position == learner.position
    assert digest_of(follower.current.model) == digest_of(learner.model)


def test_a_learner_on_another_machine_takes_over(files, pair, tmp_path):
    log = Events(600)
    old = learner_of(log, tmp_path / "old", files)
    for _ in range(5):
        old.step()
    new = learner_of(log, tmp_path / "new", files_of(pair))  # its folder is empty
    with pytest.raises(LeaseLost, match="epoch 2 has begun, this one is 1"):
        old.step()
    while new.step():
        pass
    model = new_model()
    assert ModelReader(files).load(model).position == 600
    assert digest_of(model) == digest_of(new.model)
    assert all("-0000000002-" in name for name in files.names() if name != "epoch")


def test_where_nothing_is_published_there_is_no_model(files):
    assert ModelReader(files).load(new_model()) == Stored()
    assert ModelReader(files).open() is None
    assert not ModelReader(files).has_newer()


def test_a_server_that_is_away_is_asked_again_later(tmp_path):
    class Away:
        num_asked = 0

        def begin(self, epoch):
            pass

        def names(self):
            self.num_asked += 1
            raise RedisUnavailable("away")

    now = 0.0
    away = Away()
    publisher = Publisher(None, away, wanted=lambda: ["snapshot"], clock=lambda: now)
    publisher.begin(1)
    assert [publisher.publish() for _ in range(3)] == [False] * 3
    assert away.num_asked == 1
    now = 5.0
    publisher.publish()
    assert away.num_asked == 2


def test_a_learner_follows_a_log_in_redis_on_the_command_line(pair, tmp_path, capsys):
    log, draws = open_log(pair.url), random.Random(0)
    for number in range(30):
        shown = impressions_of("a", number, draws)
        log.append([*shown, *outcomes_of(shown, draws)])
    arguments = [f"events={pair.url}", f"publish={pair.url}", "follow=false", "wait_seconds=0"]
    command_line.run(
        learn.main, LearnConfig, usage=learn.USAGE, arguments=[*arguments, f"output={tmp_path}"]
    )
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["position"], found["lag_events"]) == (log.bounds()[1], 0)
    assert ModelReader(files_of(pair)).open()[1].position == found["position"]
    assert json.loads(files_of(pair).read_status()[0])["position"] == found["position"]
    log.close()
    for given, message in (
        (arguments, "output: missing"),
        ([*arguments, f"output={tmp_path}", "publish=redis://127.0.0.1:1"], "publish=redis://127"),
        ([*arguments, f"output={tmp_path}", "events=redis://u:p@a"], "holds a user or a password"),
        ([*arguments, f"output={tmp_path}", "events=s3://a/b"], "must begin with redis"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command_line.run(learn.main, LearnConfig, usage=learn.USAGE, arguments=given)
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_threads_may_share_the_files(files):
    files.begin(1)
    for number in range(20):
        files.write(f"{number}", f"{number}".encode() * 100, epoch=1)
    wrong: list[int] = []

    def read(number: int) -> None:
        for _ in range(20):
            if files.read(f"{number}") != f"{number}".encode() * 100:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong
