from contextlib import closing

import numpy as np
import pytest

from reelseek.recommendation.learning.content_codes import content_codes, directions_of
from reelseek.recommendation.personal import video_codes
from reelseek.recommendation.personal.video_codes import VideoCodes, codes_of_videos
from tests.indexing.small_index import D
from tests.recommendation.logs import ids_in_order, index_of_axes


@pytest.fixture
def index(tmp_path):
    with closing(index_of_axes(tmp_path / "index", [0, 0, 1, 1])) as reader:
        yield reader, ids_in_order(reader, 4)


def test_codes_are_those_of_the_embeddings(index):
    reader, ids = index
    codes = VideoCodes().find(reader, [*ids, "no such id"])
    assert codes.pop("no such id") == b""
    assert codes == codes_of_videos(reader, ids)
    cosines = (
        directions_of([codes[each] for each in ids]) @ directions_of(content_codes(np.eye(D)[:2])).T
    )
    assert cosines.argmax(axis=1).tolist() == [0, 0, 1, 1]


def test_the_last_ones_are_kept_as_long_as_the_index_is_the_same(index, monkeypatch):
    reader, ids = index
    read = []

    def reading(reader, names):
        read.append(list(names))
        return codes_of_videos(reader, names)

    monkeypatch.setattr(video_codes, "codes_of_videos", reading)
    codes = VideoCodes(max_kept=2)
    codes.find(reader, ids[:2])
    codes.find(reader, [ids[1], ids[0]])
    codes.find(reader, ids[1:3])  # the one that was asked for the longest ago has to go
    codes.find(reader, [ids[2], ids[1]])
    codes.find(reader, ids[:1])
    assert read == [ids[:2], ids[2:3], ids[:1]]
    monkeypatch.setattr(type(reader), "revision", property(lambda _: 99))
    codes.find(reader, ids[:1])
    assert read[3:] == [ids[:1]]
