"""Quantisers are trained once for all shards, and a new video or shard costs only the adding."""

from contextlib import closing

import faiss
import numpy as np
import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.shards.dividing import divide_index
from reelseek.indexing.shards.opening import open_writer
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.vectors import builder, tuning
from tests.indexing.searching import search
from tests.indexing.shards.test_writer import keys, videos
from tests.indexing.small_index import SETTINGS, queries

pytestmark = pytest.mark.usefixtures("without_words")
OPTIONS = FaissOptions(kind="IVF8,SQ8")
NUM = 400


@pytest.fixture
def trainings(monkeypatch):
    """The kinds of what was trained, exact ones left out."""
    done = []
    trained = tuning.trained

    def noted(kind, *arguments, **options):
        done.extend([kind] if kind != tuning.FLAT else [])
        return trained(kind, *arguments, **options)

    monkeypatch.setattr(tuning, "trained", noted)
    return done


def add(folder, first, last, *, num_shards=None, options=OPTIONS, **how):
    with open_writer(folder, SETTINGS, num_shards=num_shards) as writer:
        for video, rows in videos(first, last):
            writer.add(video, rows)
        return writer.publish(options, **how)


def centroids(folder, manifest):
    """Of each shard's inverted file of segments, and of the shared one."""
    (info,) = [each for level, each in manifest.sharding.quantisers.items() if level == "moment"]
    paths = [folder / info.name]
    for shard, own in manifest.shard_manifests(folder).items():
        paths.append(own.levels["moment"].main.files(shard)[0])
    indexes = [faiss.read_index(str(path)) for path in paths]
    ivfs = [faiss.extract_index_ivf(index) for index in indexes]
    return [ivf.quantizer.reconstruct_n(0, ivf.nlist) for ivf in ivfs]


def test_trained_once_and_filled_by_each_shard(tmp_path, trainings):
    manifest = add(tmp_path, 0, NUM, num_shards=3)
    assert trainings == ["IVF8,SQ8"] * 2  # videos and segments
    for own in manifest.shard_manifests(tmp_path).values():
        assert {level.main.kind for level in own.levels.values()} == {"IVF8,SQ8"}
    shared, *others = centroids(tmp_path, manifest)
    for other in others:
        np.testing.assert_array_equal(other, shared)
    assert Manifest.read(tmp_path) == manifest
    with closing(IndexReader(tmp_path)) as reader:
        for query in queries(3):
            hits = search(reader, query, k=10)
            scores = sorted((float(rows[0] @ query) for _, rows in videos(0, NUM)), reverse=True)
            np.testing.assert_allclose([hit.score for hit in hits], scores[:10], atol=1e-5)


def test_what_comes_later_is_only_added(tmp_path, trainings):
    add(tmp_path, 0, NUM, num_shards=3)
    trainings.clear()
    before = Manifest.read(tmp_path).sharding.quantisers
    manifest = add(tmp_path, NUM, NUM + 30, rebuild=False)
    assert trainings == [] and manifest.sharding.quantisers == before
    assert len(keys(tmp_path)) == NUM + 30
    with open_writer(tmp_path) as writer:  # a shard is made anew
        writer.shards[1].manifest.levels.clear()
        for video, rows in videos(NUM + 30, NUM + 40):
            writer.add(video, rows)
        manifest = writer.publish()
    assert trainings == []
    shared, *others = centroids(tmp_path, manifest)
    np.testing.assert_array_equal(others[1], shared)


def test_trained_again_when_the_shards_have_doubled(tmp_path, trainings):
    add(tmp_path, 0, NUM // 3, num_shards=2)
    before = centroids(tmp_path, Manifest.read(tmp_path))[0]
    trainings.clear()
    manifest = add(tmp_path, NUM // 3, NUM)
    assert trainings == ["IVF8,SQ8"] * 2
    assert (centroids(tmp_path, manifest)[0] != before).any()
    assert len(list(tmp_path.glob("quantiser-*"))) == 2


def test_trained_again_for_other_options_and_where_damaged(tmp_path, trainings):
    add(tmp_path, 0, NUM, num_shards=2)
    trainings.clear()
    manifest = add(tmp_path, 0, 0, options=FaissOptions(kind="IVF4,SQ8"))
    assert trainings == ["IVF4,SQ8"] * 2
    trainings.clear()
    (tmp_path / manifest.sharding.quantisers["moment"].name).write_bytes(b"garbage")
    add(tmp_path, 0, 0, options=FaissOptions(kind="IVF4,SQ8"))
    assert trainings == ["IVF4,SQ8"]


def test_small_shards_train_nothing(tmp_path, trainings):
    manifest = add(tmp_path, 0, 40, num_shards=3, options=FaissOptions())
    assert trainings == [] and manifest.sharding.quantisers == {}
    assert not list(tmp_path.glob("quantiser-*"))


def test_large_shards_choose_a_kind_for_all(tmp_path, monkeypatch, trainings):
    monkeypatch.setattr(builder, "_SMALL", 100)
    monkeypatch.setattr(tuning, "candidate_factories", lambda count: ["IVF8,SQ8"])
    monkeypatch.setattr(tuning, "_EXACT_SECONDS", 0.0)
    manifest = add(tmp_path, 0, NUM, num_shards=2, options=FaissOptions())
    assert {own.kind for own in manifest.sharding.quantisers.values()} == {"IVF8,SQ8"}
    for own in manifest.shard_manifests(tmp_path).values():
        assert {level.main.kind for level in own.levels.values()} == {"IVF8,SQ8"}


def test_a_division_trains_once(tmp_path, trainings):
    add(tmp_path, 0, NUM, num_shards=1)
    trainings.clear()
    manifest = divide_index(tmp_path, 4)
    assert trainings == ["IVF8,SQ8"] * 2
    assert len({tuple(c.ravel()) for c in centroids(tmp_path, manifest)}) == 1
    assert divide_index(tmp_path, 1).faiss == OPTIONS
    assert not list(tmp_path.glob("quantiser-*"))
