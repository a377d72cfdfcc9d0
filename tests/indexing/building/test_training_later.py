"""Publishing that must be quick leaves training to the next that may take its time."""

import numpy as np

from reelseek.indexing import IndexReader
from reelseek.indexing.store.manifest import FaissOptions
from reelseek.indexing.vectors.tuning import FLAT
from reelseek.indexing.writer import IndexWriter
from tests.indexing.searching import search
from tests.indexing.small_index import SETTINGS, queries, random_video

KIND = "IVF4,Flat"


def kinds(manifest):
    return {manifest.levels[name].main.kind for name in ("video", "moment")}


def test_training_is_made_up_for(tmp_path):
    rng, options = np.random.default_rng(0), FaissOptions(kind=KIND)
    with IndexWriter(tmp_path / "i", SETTINGS) as writer:
        for i in range(200):
            writer.add(*random_video(rng, f"{i}.mp4", num_segments=4))
        quick = writer.publish(options, train=False)
        assert kinds(quick) == {FLAT}
        assert quick.rebuild
        assert writer.publish(train=False) == quick  # nothing has changed
        whole = writer.publish()
        assert kinds(whole) == {KIND}
        assert not whole.rebuild


def test_trained_index_is_extended_however_much_it_grows(tmp_path):
    rng, options = np.random.default_rng(0), FaissOptions(kind=KIND)
    with IndexWriter(tmp_path / "i", SETTINGS) as writer:
        for i in range(100):
            writer.add(*random_video(rng, f"{i}.mp4", num_segments=4))
        trained_on = writer.publish(options).levels["moment"].main.trained_on
        for i in range(100, 400):
            writer.add(*random_video(rng, f"{i}.mp4", num_segments=4))
        quick = writer.publish(train=False)
        assert quick.levels["moment"].main.trained_on == trained_on
        reader = IndexReader(tmp_path / "i")
        (query,) = queries(1)
        assert len(search(reader, query, k=400)) == 400
        reader.close()
        assert writer.publish(rebuild=True).levels["moment"].main.trained_on > 2 * trained_on
