"""Scenes are cut alike, whatever is encoded first."""

import random

import numpy as np
import pytest

from reelseek.indexing import Manifest
from reelseek.indexing.building.segmenting import NUM_VIDEOS_FOR_SPREAD
from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.store.catalogue import Catalogue

NUM_VIDEOS = 2 * NUM_VIDEOS_FOR_SPREAD + 8


@pytest.fixture
def films(write_video, tmp_path):
    rng = np.random.default_rng(1)
    for number in range(NUM_VIDEOS):
        colours = [tuple(c) for c in rng.integers(0, 256, (3, 3)).tolist() for _ in range(8)]
        write_video(f"{number:02d}.mp4", colours, folder=tmp_path / "films")
    return tmp_path / "films"


def cut(colour_index, films, order, name):
    """Indexes films in an order; returns the spread, and the scenes by key."""
    colour_index.settings.segments["kind"] = "scenes"
    colour_index.folder = films.parent / name
    listed = films / "list.txt"
    listed.write_text("".join(f"{key}\n" for key in order))
    colour_index.update(listed)
    catalogue = Catalogue(colour_index.folder / CATALOGUE_NAME, read_only=True)
    scenes = {record.key: record.spans.tolist() for record in catalogue.scan()}
    catalogue.close()
    return Manifest.read(colour_index.folder).frame_spread, scenes


def test_spread_and_scenes_do_not_depend_on_the_order_of_the_work(colour_index, films):
    keys = sorted(path.name for path in films.iterdir())
    expected = cut(colour_index, films, keys, "first")
    assert expected[0] > 0
    assert sum(len(spans) > 1 for spans in expected[1].values()) > 5
    for number in range(2):
        random.Random(number).shuffle(keys)
        assert cut(colour_index, films, keys, f"again{number}") == expected
