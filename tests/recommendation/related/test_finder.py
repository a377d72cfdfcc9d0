"""Related videos of a small index: content alone, people alone, and what lies between."""

import numpy as np
import pytest

from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import IndexContent
from reelseek.recommendation.related.finder import (
    LOOKS,
    PEOPLE,
    TAGS,
    RelatedFinder,
    RelatedSettings,
    Together,
)
from tests.indexing.small_index import make_index, video_of
from tests.recommendation.logs import ids_in_order, index_of_axes


@pytest.fixture
def library(tmp_path):
    reader = index_of_axes(
        tmp_path,
        [0, 0, 0, 1, 1, 2, 2, 3],
        tags=[["sea"], None, None, ["sea"], ["city"], None, None, ["snow"]],
    )
    catalogue = ItemCatalogue.of(reader)
    content = IndexContent(catalogue)
    yield catalogue, content, catalogue.rows(ids_in_order(reader, 8)).tolist()
    reader.close()


def test_content_alone_for_a_video_nobody_has_watched(library):
    catalogue, content, rows = library
    found = RelatedFinder(catalogue, content).find(rows[1], 2, together=Together.unknown())
    assert {each.row for each in found} == {rows[0], rows[2]}
    assert all(each.reasons == (LOOKS,) for each in found)


def test_people_count_more_the_more_there_are(library):
    catalogue, content, rows = library
    finder = RelatedFinder(catalogue, content, RelatedSettings(confidence_watchers=10.0))
    shares, looks = [], []
    numbers = (0.0, 1.0, 10.0, 1000.0)
    for num in numbers:
        together = Together(num, np.array([rows[7]]), np.array([0.02]))
        found = {each.row: each for each in finder.find(rows[1], 7, together=together)}
        shares.append(found[rows[7]].parts[PEOPLE])
        looks.append(found[rows[0]].parts[LOOKS])
    known = [num / (num + 10) for num in numbers]
    np.testing.assert_allclose(shares, known, atol=1e-4)
    np.testing.assert_allclose(looks, [looks[0] * (1 - share) for share in known], atol=2e-4)
    first = finder.find(rows[1], 1, together=Together(1000.0, np.array([rows[7]]), np.ones(1)))
    assert (first[0].row, first[0].reasons) == (rows[7], (PEOPLE,))


def test_tags_are_a_reason(library):
    catalogue, content, rows = library
    settings = RelatedSettings(looks=0.1, words=0.0, tags=0.9)
    found = RelatedFinder(catalogue, content, settings).find(
        rows[0], 1, together=Together.unknown()
    )
    assert (found[0].row, found[0].reasons[0]) == (rows[3], TAGS)


def test_copies_are_folded_and_the_video_itself_is_not_there(tmp_path):
    axes = np.eye(8)
    videos = [video_of("a.mp4", axes[[0]] + 0.1), video_of("b.mp4", axes[[1]] + 0.1)]
    for name in ("a", "b"):
        video, rows = video_of(f"copy of {name}.mp4", axes[[0 if name == "a" else 1]] + 0.1)
        videos.append((video, rows))
    make_index(tmp_path, videos)
    from reelseek.indexing import IndexReader

    reader = IndexReader(tmp_path)
    catalogue = ItemCatalogue.of(reader)
    (row,) = [r for r, v in enumerate(catalogue.records(range(4)).values()) if v.key == "a.mp4"]
    found = RelatedFinder(catalogue, IndexContent(catalogue)).find(
        row, 5, together=Together.unknown()
    )
    assert len(found) == 1 and len(found[0].duplicates) == 1
    reader.close()


def test_one_video(tmp_path):
    reader = index_of_axes(tmp_path, [0])
    catalogue = ItemCatalogue.of(reader)
    finder = RelatedFinder(catalogue, IndexContent(catalogue))
    assert finder.find(0, 5, together=Together.unknown()) == []
    reader.close()
