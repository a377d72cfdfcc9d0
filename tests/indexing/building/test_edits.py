"""Deletions and metadata of the service, kept in the catalogue."""

import sqlite3
from contextlib import closing

import pytest

from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.edits import Excluded, changed_metadata
from reelseek.indexing.store.salvage import rebuild_catalogue
from tests.indexing.store.test_catalogue import failed_video, new_video


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "videos.sqlite"
    with closing(Catalogue(path)) as catalogue:
        videos = [new_video("a.mp4", metadata={"title": "A", "year": 1}), failed_video("b.mp4")]
        catalogue.store(videos, [(1, 0), None])
    return path


def test_changes_replace_and_remove():
    known = {"title": "A", "year": 1, "tags": ["x"]}
    changes = {"title": None, "tags": ["y"], "place": "Kiel", "no": None}
    assert changed_metadata(known, changes) == {"year": 1, "tags": ["y"], "place": "Kiel"}


def test_edits_add_up_and_outlive_a_damaged_catalogue(path):
    with closing(Catalogue(path)) as catalogue:
        before = catalogue.counter("revision")
        record = catalogue.records()["a.mp4"]
        assert catalogue.edit(record, {"title": "B", "place": "Kiel"})["title"] == "B"
        catalogue.edit(catalogue.records()["a.mp4"], {"place": None})
        assert catalogue.counter("revision") == before + 2
        catalogue.exclude([catalogue.records()["b.mp4"]])
    rebuild_catalogue(path, next_part=2)
    with closing(Catalogue(path)) as catalogue:
        assert catalogue.records()["a.mp4"].metadata == {"title": "B", "year": 1}
        assert catalogue.edits() == {record.public_id: {"title": "B", "place": None}}
        assert catalogue.excluded() == [Excluded("", "b.mp4", "/b.mp4")]


def test_excluded_video_is_gone_with_its_edits(path):
    with closing(Catalogue(path)) as catalogue:
        record = catalogue.records()["a.mp4"]
        catalogue.edit(record, {"title": "B"})
        catalogue.exclude([catalogue.records()["a.mp4"]])
        assert list(catalogue.records()) == ["b.mp4"]
        assert catalogue.edits() == {}
        (excluded,) = catalogue.excluded()
        catalogue.include([excluded])
        assert catalogue.excluded() == []


def test_excluded_videos_move_with_their_root(path):
    with closing(Catalogue(path)) as catalogue:
        catalogue.exclude([catalogue.records()["a.mp4"]])
        catalogue.move_root("", "/elsewhere")
        assert catalogue.excluded() == [Excluded("", "a.mp4", "/elsewhere/a.mp4")]


def test_catalogue_of_an_older_version_can_be_read(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE excluded")
    with closing(Catalogue(path, read_only=True)) as catalogue:
        assert catalogue.excluded() == []
