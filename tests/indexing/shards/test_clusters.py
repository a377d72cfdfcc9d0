"""Shards placed by cluster: like videos lie together, and a search asks few shards."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from reelseek import Searcher
from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.candidates import GatherRequest
from reelseek.indexing.cluster.connection import check_cluster_can_write
from reelseek.indexing.shards.clusters import (
    ClusterMap,
    near_shards,
    open_clusters,
    parse_max_asked,
)
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.shards.learning import Sample, learn_clusters, measure_routing
from reelseek.indexing.shards.opening import open_catalogue, open_writer
from reelseek.indexing.shards.query import ReaderQuery
from reelseek.indexing.store.manifest import ClusterInfo
from reelseek.indexing.tools.verify import find_problems
from tests.command_lines import run_program
from tests.indexing.in_process import run_tool
from tests.indexing.shards.collection import GivenEncoder, collection, make_index
from tests.indexing.shards.collection import answers as every_answer
from tests.indexing.small_index import SETTINGS, D, failed_video, unit, video_of

NUM_KINDS = 6


def kinds(num, *, seed=3):
    """Videos of a few kinds, whose frames are alike; and the kind of each, by key."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(D, D)))[0][:NUM_KINDS]
    videos, kind_of = [], {}
    for number in range(num):
        kind = number % NUM_KINDS
        rows = centres[kind] + 0.08 * rng.normal(size=(2, D))
        video, embeddings = video_of(f"{number}.mp4", rows, root="r")
        videos.append((video, embeddings))
        kind_of[video.key] = kind
    return videos, kind_of, unit(centres)


def make(folder, videos):
    with open_writer(folder, SETTINGS) as writer:
        for video, rows in videos:
            writer.add(video, rows)
        writer.publish()


def shards_of(folder):
    """The position of each video's shard, by key."""
    found = {}
    for position, shard in enumerate(Manifest.read(folder).shard_manifests(folder)):
        with closing(open_catalogue(shard)) as catalogue:
            found |= {record.key: position for record in catalogue.scan()}
    return found


@pytest.fixture
def asked(monkeypatch):
    """The shards that were asked for vectors."""
    folders = []
    neighbours = ReaderQuery._neighbours

    def noted(self, embedding):
        folders.append(self._shard.folder.name)
        return neighbours(self, embedding)

    monkeypatch.setattr(ReaderQuery, "_neighbours", noted)
    return folders


# Clusters by themselves


def clusters():
    cells = np.eye(4, D, dtype=np.float32)
    return ClusterMap(cells, np.array([0, 0, 2, 2]), 4)


def test_a_video_goes_where_most_of_its_segments_are():
    cells = clusters().cells
    rows = np.stack([cells[0], cells[0], cells[2], cells[3]])  # the whole, and three segments
    assert clusters().place(rows, num_segments=3, public_id="x") == 2
    # Among equals the whole decides; frames do not count.
    rows = np.stack([cells[1], cells[0], cells[2], cells[3], cells[3]])
    assert clusters().place(rows, num_segments=2, public_id="x") == 0
    nothing = np.empty((0, D), np.float32)
    assert 0 <= clusters().place(nothing, num_segments=0, public_id="x") < 4


def test_shards_come_in_the_order_of_their_nearest_cells():
    query = np.array([[0.1, 0.2, 0.0, 0.9]], np.float32) @ clusters().cells
    assert clusters().nearest_shards(query).tolist() == [[2, 0, 1, 3]]


@pytest.mark.parametrize(
    ("max_asked", "num_videos", "near"),
    [
        (0, 1, [2]),
        (2, 1, [0, 2]),
        (None, 1, [0, 1, 2, 3]),
        (0, 5, [0, 2]),  # four times as many videos as are wanted
        (0, 99, [0, 1, 2, 3]),
    ],
)
def test_as_many_shards_are_asked_as_hold_enough(max_asked, num_videos, near):
    info = ClusterInfo("clusters-1.npy", 1, {}, 0)
    query = clusters().cells[3:]
    found = near_shards(
        clusters(),
        info,
        query,
        counts=[10, 10, 10, 10],
        num_videos=num_videos,
        max_asked=max_asked,
    )
    assert np.flatnonzero(found).tolist() == near


def test_recall_of_the_nearest_shards_is_counted():
    """Two shards; each segment's nearest are in its own shard, a query's between both."""
    cells = np.eye(2, D, dtype=np.float32)
    segments = np.repeat(cells, 40, axis=0)
    ids = [f"{number:02d}" for number in range(80)]
    shards = np.repeat([0, 1], 40)
    sample = Sample(segments, segments, np.ones(80, np.int64), ids, shards)
    found = measure_routing(
        ClusterMap(cells, np.array([1, 0]), 2), sample, shards, queries={"logged": cells[:1]}
    )
    assert found["stored"].tolist() == found["logged"].tolist() == [0.0, 1.0]
    found = measure_routing(ClusterMap(cells, np.array([0, 1]), 2), sample, shards, queries={})
    assert found["stored"].tolist() == [1.0, 1.0]


def test_learned_clusters_are_of_much_the_same_size():
    rng = np.random.default_rng(0)
    segments = unit(rng.normal(size=(4000, D)) + 3 * np.eye(D)[rng.choice(3, size=4000)])
    sample = Sample(segments, segments, np.ones(4000, np.int64), [""] * 4000, np.zeros(4000, int))
    learned = learn_clusters(sample, 5)
    counts = np.bincount(sample.placed(learned), minlength=5)
    assert counts.sum() == 4000 and counts.max() <= 1.2 * 800
    again = learn_clusters(sample, 5)
    np.testing.assert_array_equal(again.cells, learned.cells)
    np.testing.assert_array_equal(again.owners, learned.owners)


def test_shards_asked_are_auto_all_or_a_number():
    assert [parse_max_asked(text) for text in ("auto", "all", "3", 7)] == [0, None, 3, 7]
    for wrong in ("0", "-1", "some", "", 0, "1.5"):
        with pytest.raises(ValueError, match=f"shards={wrong}: must be auto, all or a number"):
            parse_max_asked(wrong)


# Indexes


@pytest.mark.usefixtures("without_words")
def test_like_videos_lie_together_and_few_shards_are_asked(tmp_path, asked):
    videos, kind_of, centres = kinds(120)
    make(tmp_path, videos)
    manifest = divide_index(tmp_path, 3, placement="cluster")
    placed = shards_of(tmp_path)
    assert set(placed) == set(kind_of)
    shard_of_kind = {}
    for key, position in placed.items():
        assert shard_of_kind.setdefault(kind_of[key], position) == position
    assert sorted(np.bincount(list(shard_of_kind.values()))) == [2, 2, 2]
    assert manifest.sharding.clusters.num_asked == 1
    assert manifest.sharding.clusters.recall == {"stored": 1.0}
    with closing(IndexReader(tmp_path)) as reader:
        names = [folder.name for folder in manifest.shard_manifests(tmp_path)]
        for kind, centre in enumerate(centres):
            asked.clear()
            found = reader.gather(GatherRequest(centre[None], "moment", 8))
            assert {kind_of[v.record.key] for v in found.videos.values()} == {kind}
            assert asked == [names[shard_of_kind[kind]]]
        asked.clear()
        reader.gather(GatherRequest(centres[:1], "video", 8, where="duration > 0"))
        assert asked == names


@pytest.mark.parametrize("num_shards", [2, 5])
def test_asked_all_it_answers_as_one_index(tmp_path, num_shards):
    pytest.importorskip("tantivy")
    made, said = collection(num=50)
    folder = make_index(tmp_path, made, said, num_shards=1)
    with closing(IndexReader(folder)) as reader:
        ids = reader.video_ids()
    expected = every_answer(folder, ids)
    divide_index(folder, num_shards, placement="cluster")
    for one, other in zip(every_answer(folder, ids, shards="all"), expected, strict=True):
        np.testing.assert_equal(one, other)
    assert list(find_problems(folder)) == []


def test_texts_are_found_in_every_shard(tmp_path):
    pytest.importorskip("tantivy")
    made, said = collection(num=50)
    folder = make_index(tmp_path, made, said, num_shards=1)

    def found(shards):
        with Searcher.open(folder, encoder=GivenEncoder(), shards=shards) as searcher:
            return list(searcher.search("dog", sources=["lexical"], k=30))

    expected = found("auto")
    divide_index(folder, 4, placement="cluster")
    assert len(expected) > 5 and found(1) == found("auto") == expected


@pytest.mark.usefixtures("without_words")
def test_placing_is_repeatable_and_does_not_depend_on_the_division(tmp_path):
    videos, *_ = kinds(60)
    make(tmp_path, videos)
    divide_index(tmp_path, 4, placement="cluster")
    first = shards_of(tmp_path)
    for step in (
        {"num_shards": 4, "placement": "cluster"},
        {"num_shards": 3, "placement": "hash"},
        {"num_shards": 1},
    ):
        divide_index(tmp_path, **step)
        divide_index(tmp_path, 4, placement="cluster")
        assert shards_of(tmp_path) == first
    assert divide_index(tmp_path, 3).sharding.placement == "cluster"  # as it was
    assert divide_index(tmp_path, 3, placement="hash").sharding.clusters is None
    assert not list(tmp_path.glob("clusters-*"))


@pytest.mark.usefixtures("without_words")
def test_new_videos_go_to_their_nearest_shard_and_known_ones_stay(tmp_path):
    videos, kind_of, centres = kinds(60)
    make(tmp_path, videos)
    divide_index(tmp_path, 3, placement="cluster")
    before = shards_of(tmp_path)
    shard_of_kind = {kind_of[key]: position for key, position in before.items()}
    with open_writer(tmp_path) as writer:
        for kind, centre in enumerate(centres):
            video, rows = video_of(f"new {kind}.mp4", centre[None], root="r")
            writer.add(video, rows)
        failed, no_rows = failed_video("late.mp4")
        writer.add(replace(failed, root="r"), no_rows)
        # A file that shows something else now, added twice before anything is saved.
        for other in (2, 3):
            writer.add(*video_of("0.mp4", centres[other][None], root="r"))
        writer.publish()
    after = shards_of(tmp_path)
    assert {kind: after[f"new {kind}.mp4"] for kind in range(NUM_KINDS)} == shard_of_kind
    assert {key: after[key] for key in before} == before
    kind = next(k for k in range(NUM_KINDS) if shard_of_kind[k] != after["late.mp4"])
    with open_writer(tmp_path) as writer:
        writer.add(*video_of("late.mp4", centres[kind][None], root="r"))
        writer.publish()
        (record,) = [r for r in writer.catalogue.scan() if r.key == "late.mp4"]
        copied = replace(videos[1][0], key="copy.mp4")
        source = next(r for r in writer.catalogue.scan() if r.key == "1.mp4")
        writer.add_duplicate(copied, source)
        writer.publish()
    assert shards_of(tmp_path)["late.mp4"] == shard_of_kind[kind]
    assert shards_of(tmp_path)["copy.mp4"] == before["1.mp4"]
    assert record.outcome == "ok"
    with closing(IndexReader(tmp_path)) as reader:
        assert reader.record(record.public_id).key == "late.mp4"
        assert reader.record("no such id") is None
        assert len(reader.video_ids()) == len(set(reader.video_ids())) == 60 + NUM_KINDS + 2
    with open_writer(tmp_path) as writer:
        writer.delete_videos([record])
        writer.publish()
    assert "late.mp4" not in shards_of(tmp_path)
    assert list(find_problems(tmp_path)) == []


@pytest.mark.usefixtures("without_words")
def test_shards_may_be_empty(tmp_path):
    """Two videos that are alike in four shards."""
    row = np.eye(1, D)
    make(tmp_path, [video_of(f"{n}.mp4", row, root="r") for n in range(2)])
    manifest = divide_index(tmp_path, 4, placement="cluster")
    counts = [own.num_videos for own in manifest.sharding.shards.values()]
    assert sorted(counts) == [0, 0, 0, 2]
    for shards in ("auto", "all"):
        with closing(IndexReader(tmp_path, shards_asked=shards)) as reader:
            found = reader.gather(GatherRequest(unit(row), "moment", 5))
            assert len(found.videos) == 2
    assert list(find_problems(tmp_path)) == []
    with open_writer(tmp_path) as writer:
        writer.delete_videos(list(writer.catalogue.scan()))
        writer.publish()
    with pytest.raises(ValueError, match=r"no videos to learn clusters from; .*placement=hash"):
        divide_index(tmp_path, 2)
    assert divide_index(tmp_path, 2, placement="hash").num_videos == 0


# Damage and mistakes


@pytest.mark.usefixtures("without_words")
@pytest.mark.parametrize("damage", ["lost", "damaged"])
def test_lost_clusters_are_made_anew_of_what_the_shards_hold(tmp_path, damage):
    videos, *_ = kinds(60)
    make(tmp_path, videos)
    manifest = divide_index(tmp_path, 3, placement="cluster")
    before = shards_of(tmp_path)
    path = tmp_path / manifest.sharding.clusters.name
    path.unlink() if damage == "lost" else path.write_bytes(path.read_bytes()[:-1] + b"~")
    for use in (open_writer, lambda folder: IndexReader(folder)):
        with pytest.raises(ValueError, match=r"clusters.*run reelseek repair"):
            use(tmp_path)
    assert any("clusters-" in line for line in find_problems(tmp_path))
    assert run_tool("repair", f"index={tmp_path}").metrics == {"dropped": 0, "searchable": 60}
    assert list(find_problems(tmp_path)) == []
    assert shards_of(tmp_path) == before
    made = Manifest.read(tmp_path)
    assert made.sharding.clusters.num_asked == 1
    assert set(open_clusters(tmp_path, made).owners) == {0, 1, 2}


@pytest.mark.usefixtures("without_words")
def test_a_lost_manifest_is_made_with_its_clusters(tmp_path):
    videos, *_ = kinds(30)
    make(tmp_path, videos)
    before = divide_index(tmp_path, 3, placement="cluster").sharding
    Manifest.path(tmp_path).unlink()
    assert run_tool("repair", f"index={tmp_path}").returncode == 0
    after = Manifest.read(tmp_path).sharding
    assert (after.placement, after.clusters) == ("cluster", before.clusters)
    assert list(find_problems(tmp_path)) == []


@pytest.mark.usefixtures("without_words")
def test_a_video_in_two_shards_is_found(tmp_path):
    videos, *_ = kinds(30)
    make(tmp_path, videos)
    divide_index(tmp_path, 3, placement="cluster")
    with open_writer(tmp_path) as writer:
        record = next(writer.catalogue.scan())
        position, _ = writer.catalogue.own(record)
        video = replace(videos[0][0], key=record.key, public_id=record.public_id)
        writer.shards[(position + 1) % 3].add(video, videos[0][1])
        writer.publish()
    assert f"{record.public_id}: is in 2 shards" in list(find_problems(tmp_path))


@pytest.mark.usefixtures("without_words")
def test_command(tmp_path):
    videos, *_ = kinds(60)
    make(tmp_path, videos)
    done = run_tool("shard", f"index={tmp_path}", "shards=3", "placement=cluster")
    assert done.returncode == 0 and '"searchable": 60' in done.stdout
    assert (
        "cluster; a search asks 1, which hold 1.000 (stored queries)"
        in run_tool("status", f"index={tmp_path}").stdout
    )


@pytest.mark.usefixtures("without_words")
def test_mistakes_are_one_line(tmp_path):
    make(tmp_path / "index", [])
    for options, message in (
        (["shards=2", "placement=colour"], "placement=colour"),
        (["shards=1", "placement=cluster"], "placement=cluster: one shard holds all videos"),
        (["shards=2", "placement=cluster"], "no videos to learn clusters from; index some first"),
    ):
        done = run_tool("shard", f"index={tmp_path / 'index'}", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1 and message in done.stderr
    done = run_program("search.py", f"index={tmp_path}", "query=a", "shards=0")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "shards=0: must be auto, all or a number from 1 on" in done.stderr


@pytest.mark.usefixtures("without_words")
def test_a_cluster_of_machines_does_not_write_it(tmp_path):
    pytest.importorskip("ray")
    videos, *_ = kinds(12)
    make(tmp_path, videos)
    divide_index(tmp_path, 2, placement="cluster")
    with pytest.raises(ValueError, match=r"engine=ray: .* placed by cluster, .* leave engine out"):
        check_cluster_can_write(tmp_path, None)
