"""What of a cluster can be tested without Ray."""

import os
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

import reelseek.indexing.__main__
import reelseek.vision
from reelseek.indexing.cluster import connection
from reelseek.indexing.cluster.encoding import EncoderInfo, _check_alike
from reelseek.indexing.cluster.placement import Node, Sight, encoder_nodes
from reelseek.indexing.cluster.writing import ShardActor, wait_for_lock
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.shards.writer import ShardedWriter
from reelseek.indexing.writer import IndexWriter, only_writer
from reelseek.vision import FrameEncoder
from tests.command_lines import assert_user_error, run_in_this_process
from tests.indexing.small_index import SETTINGS, random_video


def index(*arguments):
    done = run_in_this_process(reelseek.indexing.__main__, "index", "niceness=0", *arguments)
    assert done.stdout == ""
    return done


# A user's mistakes


@pytest.fixture
def film(write_video):
    return write_video("red.mp4", [(220, 30, 30)] * 4)


def test_without_ray_one_line_says_what_to_install(film, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "find_spec", lambda name: None)
    done = index(f"videos={film}", f"index={tmp_path / 'index'}", "engine=ray", "shards=2")
    assert done.returncode == 2
    assert done.stderr == (
        "error: engine=ray: needs Ray, which is missing; pip install 'reelseek[cluster]'\n"
    )
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("shards", [[], ["shards=1"]])
def test_a_cluster_needs_shards(film, tmp_path, monkeypatch, shards):
    monkeypatch.setattr(connection, "find_spec", lambda name: object())
    folder = tmp_path / "index"
    done = index(f"videos={film}", f"index={folder}", "engine=ray", *shards)
    assert (done.returncode, "give shards=N, 2 or more" in done.stderr) == (2, True)
    with IndexWriter(folder, SETTINGS) as writer:
        writer.publish()
    with pytest.raises(ValueError, match=r"in one piece; divide it: reelseek shard --index .* --s"):
        connection.check_cluster_can_write(folder, None)


def test_8_bits_are_refused_since_two_runs_would_differ(film, tmp_path):
    arguments = (f"videos={film}", f"index={tmp_path / 'index'}", "engine=ray", "shards=2")
    done = index(*arguments, "precision=int8")
    assert (done.returncode, done.stderr.startswith("error: precision=int8: engine=ray")) == (
        2,
        True,
    )


@pytest.mark.parametrize(
    ("option", "part"),
    [
        ("ray.address=nonsense", "must be auto or HOST:PORT"),
        ("ray.address=ray://head:10001", "must be auto or HOST:PORT"),
        ("ray.address=head:123456", "must be auto or HOST:PORT"),
        ("ray.frames_mb=0", "must be at least 1"),
        ("ray.frames_mb=inf", "must be at least 1"),
    ],
)
def test_bad_option_is_one_line_before_a_model_is_loaded(film, tmp_path, monkeypatch, option, part):
    monkeypatch.setattr(connection, "find_spec", lambda name: object())
    monkeypatch.setattr(reelseek.vision, "load_model", None)
    folder = tmp_path / "index"
    done = index(f"videos={film}", f"index={folder}", "engine=ray", "shards=2", option)
    assert_user_error(done, option.partition("=")[0], part)
    assert not folder.exists()


@pytest.mark.cluster
@pytest.mark.parametrize("listens", [False, True], ids=["nobody", "another-program"])
def test_address_without_a_cluster_is_one_line_before_a_model_is_loaded(
    film, tmp_path, monkeypatch, listens
):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    monkeypatch.setattr(reelseek.vision, "load_model", None)
    monkeypatch.setattr(connection, "_PROBE_SECONDS", 3.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = "{}:{}".format(*other.getsockname())
        arguments = (f"videos={film}", f"index={tmp_path / 'index'}", "engine=ray", "shards=2")
        done = index(*arguments, f"ray.address={address}")
    assert_user_error(done, f"ray.address={address}: no cluster can be joined there")


@pytest.mark.parametrize(("asked", "told"), [(None, "0"), ("1", "1")])
def test_usage_statistics_are_off_unless_asked_for(monkeypatch, asked, told):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelseek[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "")  # so that it is restored
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    if asked is not None:
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", asked)
    seen = []
    # The processes of Ray take over the environment that it is started in.
    init = lambda **options: seen.append(os.environ["RAY_USAGE_STATS_ENABLED"])  # noqa: E731
    monkeypatch.setattr(ray, "init", init)
    with connection.connect(None):
        pass
    assert seen == [told]


# Where things run


def test_encoders_are_on_gpus_where_there_are_any_else_on_every_node():
    head, small, large = Node("a", 0), Node("b", 4), Node("c", 16)
    assert encoder_nodes([head, small, large]) == [small, large]
    gpus = Node("d", 8, num_gpus=2)
    assert encoder_nodes([head, small, gpus]) == [gpus, gpus]


def test_nodes_that_are_blind_to_a_root_are_avoided_for_that_root():
    sight = Sight()
    sight.note("films", sees="c", blind=["a"])
    sight.note("films", sees="d", blind={"b", "c"})  # c has read another
    assert sight.avoid("films") == {"a", "b"}
    assert sight.avoid("photos") == frozenset()


def test_encoders_must_be_alike_and_of_the_indexs_model():
    one = EncoderInfo("f", "bf16", "openvino", 4)
    _check_alike([one, one], "f")
    with pytest.raises(ValueError, match="another model"):
        _check_alike([one], "g")
    with pytest.raises(ValueError, match=r"encode differently: .*openvino.*torch"):
        _check_alike([one, EncoderInfo("f", "bf16", "torch", 4)], "f")
    with pytest.raises(ValueError, match="no cores"):
        _check_alike([], "f")


# Shards in other hands


def actors(writer: ShardedWriter):
    return [ShardActor(f, writer.manifest.settings, place) for f, place in writer.places().items()]


def test_lent_shards_are_written_by_others_and_come_back(tmp_path):
    rng = np.random.default_rng(0)
    with open_writer(tmp_path, SETTINGS, num_shards=2) as writer:
        video, rows = random_video(rng, "a.mp4", root="r")
        writer.add(video, rows)
        first, second = actors(writer)
        with writer.lend():
            with pytest.raises(ValueError, match="another process"):
                open_writer(tmp_path)
            for folder in writer.places():
                only_writer(folder).release()  # it is free
            first._opened()
            with pytest.raises(ValueError, match="another process"):
                only_writer(next(iter(writer.places())))
            first.close()
            second.close()
        (record,) = writer.catalogue.scan()
        assert record.key == "a.mp4"
        writer.publish()


def test_a_dying_writer_is_waited_for(tmp_path):
    holds, ended = threading.Event(), threading.Event()

    def hold():
        lock = only_writer(tmp_path)
        holds.set()
        ended.wait(0.5)
        lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    with pytest.raises(ValueError, match="another process"):
        wait_for_lock(tmp_path, max_seconds=0.1)
    wait_for_lock(tmp_path)
    thread.join()
    only_writer(tmp_path).release()
    wait_for_lock(tmp_path / "none")


# One shape


def test_a_frames_embedding_does_not_depend_on_the_size_of_its_batch(colour_model):
    shapes = []

    class Watched(torch.nn.Module):
        def forward(self, frames):
            shapes.append(tuple(frames.shape))
            return frames.mean(dim=(2, 3))

    clip = colour_model.clip
    clip.visual = Watched()
    model = replace(colour_model, clip=clip)
    encoder = FrameEncoder(model, device="cpu", precision="fp32", padded=True)
    pixels = torch.randint(0, 256, (11, 3, 16, 16), dtype=torch.uint8)
    together = encoder.encode(pixels)
    alone = torch.cat([encoder.encode(frame[None]) for frame in pixels])
    assert torch.equal(together, alone)
    assert set(shapes) == {(encoder.batch_frames, 3, 16, 16)}
