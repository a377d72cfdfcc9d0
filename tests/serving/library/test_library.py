"""Watching, adding, changing and deleting, as the other processes of the service ask for it."""

import os
import time
from contextlib import closing

import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.lexical import documents
from reelseek.indexing.sources.collection import read_source
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.serving.library.errors import InvalidRequest, NotFound
from reelseek.serving.library.state import StateToken
from tests.conftest import COLOURS
from tests.indexing.searching import search_words
from tests.serving.library.conftest import ThreadRun, wait_until

ALL = ["blue.mp4", "red.mp4", "sub/green.mp4"]


def keys(index):
    """Of all that a search finds, sorted; none as long as nothing is published."""
    if not Manifest.exists(index.folder) or not Manifest.read(index.folder).num_videos:
        return []
    return index.keys()


def public_id(index, key):
    with closing(Catalogue(index.folder / "videos.sqlite", read_only=True)) as catalogue:
        return next(record.public_id for record in catalogue.scan() if record.key == key)


def is_idle(library):
    return library.status()["indexing"]["state"] == "idle"


def read_state(index):
    manifest = Manifest.read(index.folder)
    return StateToken(manifest.generation, manifest.revision)


def test_new_changed_and_removed_files_are_followed(start, videos, colour_index, write_video):
    start(videos)
    wait_until(lambda: keys(colour_index) == ALL)
    write_video("new.mp4", [COLOURS["red"]] * 15, folder=videos)
    wait_until(lambda: keys(colour_index) == sorted([*ALL, "new.mp4"]))
    (videos / "sub" / "green.mp4").unlink()
    wait_until(lambda: keys(colour_index) == ["blue.mp4", "new.mp4", "red.mp4"])
    write_video("new.mp4", [COLOURS["green"]] * 20, folder=videos)
    wait_until(lambda: colour_index.search("green")[0].key == "new.mp4")


def test_a_glob_is_followed(start, videos, colour_index, write_video):
    library = start(videos / "**" / "*e*.mp4")
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    assert library.status()["watching"] == ["films/**/*e*.mp4"]
    write_video("sub/tiny.mp4", [COLOURS["red"]] * 15, folder=videos)  # has no e
    write_video("sub/new.mp4", [COLOURS["red"]] * 15, folder=videos)
    wait_until(
        lambda: keys(colour_index) == ["blue.mp4", "red.mp4", "sub/green.mp4", "sub/new.mp4"]
    )
    library.delete({"ids": [public_id(colour_index, "red.mp4")]})
    added = library.add({"videos": ["red.mp4"], "wait_seconds": 30})  # below the fixed folder
    assert added["videos"][0]["outcome"] == "ok"


def test_a_list_is_followed(start, videos, colour_index):
    listed = videos / "some.txt"
    listed.write_text("red.mp4\nsub/green.mp4\n")
    start(listed)
    wait_until(lambda: keys(colour_index) == ["red.mp4", "sub/green.mp4"])
    replaced = videos / "new.txt"
    replaced.write_text("red.mp4\nsub/green.mp4\nblue.mp4\n")
    os.replace(replaced, listed)
    wait_until(lambda: keys(colour_index) == ALL)


def test_deleted_video_stays_out_until_it_is_added_again(start, videos, colour_index, write_video):
    library = start(videos)
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    id = public_id(colour_index, "red.mp4")
    token = library.delete({"ids": [id]})["token"]
    assert keys(colour_index) == ["blue.mp4", "sub/green.mp4"]
    assert StateToken.parse(token) == read_state(colour_index)
    write_video("new.mp4", [COLOURS["red"]] * 15, folder=videos)  # another run over the folder
    left = ["blue.mp4", "new.mp4", "sub/green.mp4"]
    wait_until(lambda: keys(colour_index) == left and is_idle(library))
    with pytest.raises(NotFound):
        library.delete({"ids": [id]})
    added = library.add({"videos": ["red.mp4"], "wait_seconds": 30})
    assert added["done"]
    assert added["videos"] == [{"id": id, "video": "red.mp4", "outcome": "ok", "reason": ""}]
    assert StateToken.parse(added["token"]) <= read_state(colour_index)
    assert keys(colour_index) == sorted([*left, "red.mp4"])


def test_index_by_hand_takes_deleted_videos_again(start, videos, colour_index):
    library = start(videos)
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    library.delete({"ids": [public_id(colour_index, "red.mp4")]})
    library.close()
    colour_index.update(videos, keep_edited=True)
    assert keys(colour_index) == ["blue.mp4", "sub/green.mp4"]
    colour_index.update(videos)
    assert keys(colour_index) == ALL
    colour_index.update(videos, keep_edited=True)  # the deletion is forgotten
    assert keys(colour_index) == ALL


def test_deletion_of_the_last_video_of_a_root_is_remembered(start, videos, colour_index):
    library = start(videos)
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    library.delete({"ids": [public_id(colour_index, key) for key in ALL]})
    library.close()
    assert colour_index.update(videos, keep_edited=True).searchable == 0


def test_write_does_not_wait_for_a_long_run(start, videos, colour_index, write_video):
    library = start(videos)
    wait_until(lambda: keys(colour_index) == ALL and is_idle(library))
    ThreadRun.hold.set()
    write_video("long.mp4", [COLOURS["red"]] * 15, folder=videos)
    wait_until(lambda: library.status()["indexing"]["state"] == "running")
    started = time.monotonic()
    library.delete({"ids": [public_id(colour_index, "blue.mp4")]})
    assert time.monotonic() - started < 20
    assert "blue.mp4" not in keys(colour_index)
    ThreadRun.hold.clear()
    wait_until(lambda: keys(colour_index) == ["long.mp4", "red.mp4", "sub/green.mp4"])


@pytest.mark.skipif(not documents.is_installed(), reason="needs the extra lexical")
def test_changed_metadata_are_found_by_words_and_outlive_runs(start, videos, colour_index):
    listed = videos / "films.jsonl"
    listed.write_text('{"video": "red.mp4", "title": "Old", "tags": ["a"], "year": 1999}\n')
    library = start(listed)
    wait_until(lambda: keys(colour_index) == ["red.mp4"] and is_idle(library))
    reader = IndexReader(colour_index.folder)  # open before the change
    changes = {"title": "A zeppelin over the sea", "tags": None, "place": "Kiel"}
    changed = library.patch({"id": public_id(colour_index, "red.mp4"), "metadata": changes})
    expected = {"title": "A zeppelin over the sea", "place": "Kiel", "year": 1999}
    assert changed["metadata"] == expected
    (found,) = search_words(reader, ["zeppelin"], k=5)
    assert (found.key, found.text) == ("red.mp4", "A zeppelin over the sea")
    assert reader.manifest.generation >= StateToken.parse(changed["token"]).generation
    reader.close()
    library.close()
    colour_index.update(listed, keep_edited=True)  # the list says otherwise
    assert colour_index.search("red")[0].metadata == expected
    colour_index.update(listed)
    assert colour_index.search("red")[0].metadata == {"title": "Old", "tags": ["a"], "year": 1999}


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        [1],
        {"title": 3},
        {"tags": [1]},
        {"captions": ["a dog", 7]},
        {"captured": {"date": "2020"}},
        {" ": 1},
        {"title": "\ud800"},
        {"note": "x" * 100_000},
        {"deep": [[[[[[[[[[1]]]]]]]]]]},
    ],
)
def test_metadata_that_are_none_are_refused(start, metadata):
    with pytest.raises(InvalidRequest):
        start().patch({"id": "abc", "metadata": metadata})


def test_added_paths_never_leave_the_roots(start, videos, tmp_path, write_video):
    outside = write_video("outside.mp4", [COLOURS["red"]] * 10, folder=tmp_path / "other")
    os.symlink(outside, videos / "link.mp4")
    os.symlink(outside.parent, videos / "linked")
    (videos / ".hidden.mp4").write_bytes(b"")
    (videos / "notes.txt").write_text("outside.mp4")
    library = start(roots=[str(videos)])
    refused = [
        "../other/outside.mp4",
        "sub/../../other/outside.mp4",
        str(outside),
        "link.mp4",
        "linked/outside.mp4",
        ".hidden.mp4",
        "notes.txt",
        "sub",
        "",
        "./red.mp4",
        "red.mp4\0",
        "..\\other\\outside.mp4",
        "~/red.mp4",
        "$HOME/red.mp4",
        "x" * 5000 + ".mp4",
        "\ud800.mp4",
    ]
    for key in refused:
        with pytest.raises((InvalidRequest, NotFound)) as raised:
            library.add({"videos": ["red.mp4", key]})
        assert str(tmp_path) not in str(raised.value) or key == str(outside)


def test_video_is_added_under_its_key_below_the_root(start, videos, colour_index):
    library = start(roots=[str(videos)])
    added = library.add({"videos": ["sub/green.mp4"], "wait_seconds": 30})
    assert [video["video"] for video in added["videos"]] == ["sub/green.mp4"]
    assert keys(colour_index) == ["sub/green.mp4"]
    with pytest.raises(InvalidRequest, match="roots="):
        start().add({"videos": ["red.mp4"]})


def test_adding_does_not_wait_longer_than_told(start, videos):
    ThreadRun.hold.set()
    added = start(roots=[str(videos)]).add({"videos": ["red.mp4"], "wait_seconds": 0.1})
    assert added == {"done": False, "token": None, "videos": []}


def test_root_of_a_single_file_can_be_marked(videos):
    (item,) = (source := read_source(f"{videos}/./sub/green.mp4")).items
    assert (source.root, item.path) == (videos, videos / "sub" / "green.mp4")
    assert read_source(f"{videos}/sub/green.mp4").root == videos / "sub"
