"""Runs over several folders and lists, some of them away: what is kept, and what it is called."""

import json
import os
import shutil
from contextlib import closing
from dataclasses import replace

import pytest

from reelseek.indexing.publishing import CATALOGUE_NAME
from reelseek.indexing.sources.collection import read_source
from reelseek.indexing.sources.roots import collect
from reelseek.indexing.store.catalogue import Catalogue
from reelseek.indexing.store.videos import FileSignature, VideoRecord
from tests.conftest import COLOURS

RED, GREEN, BLUE = COLOURS.values()


@pytest.fixture
def film(write_video, tmp_path):
    """Writes a film of one colour; another length is another content."""

    def write(name, colour, *, num_frames=20):
        path = tmp_path / name
        return write_video(path.name, [colour] * num_frames, fps=2, folder=path.parent)

    return write


@pytest.fixture
def cards(film, tmp_path):
    """Two memory cards on which the names are the same, as cameras give them."""
    for number, colours in enumerate([(RED, GREEN, BLUE), (BLUE, RED)], start=1):
        for i, colour in enumerate(colours):
            film(f"card{number}/IMG_000{i}.mp4", colour, num_frames=10 + 10 * number + 2 * i)
    return tmp_path / "card1", tmp_path / "card2"


def counts(summary):
    """The summary's counts that are not zero."""
    names = "indexed unchanged moved failed deleted missing searchable".split()
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def records(index):
    """What the index holds, by path."""
    with closing(Catalogue(index.folder / CATALOGUE_NAME, read_only=True)) as catalogue:
        return {record.path: record for record in catalogue.scan()}


def ids(index):
    return {path: record.public_id for path, record in records(index).items()}


def report(index):
    """The lines of the report by path."""
    lines = (index.folder / "report.jsonl").read_text().splitlines()
    by_path = {line["video"]: line for line in map(json.loads, lines)}
    assert len(by_path) == len(lines)
    return by_path


def write_list(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# Several roots


def test_two_cards_may_hold_the_same_names(colour_index, cards):
    assert counts(colour_index.update(*cards)) == {"indexed": 5, "searchable": 5}
    held = records(colour_index)
    assert sorted(held) == sorted(str(path) for card in cards for path in card.iterdir())
    assert len({record.root_and_key for record in held.values()}) == 5
    assert len({record.public_id for record in held.values()}) == 5
    assert {hit.video for hit in colour_index.search("blue", k=2)} == {
        str(cards[0] / "IMG_0002.mp4"),
        str(cards[1] / "IMG_0000.mp4"),
    }


@pytest.mark.parametrize("order", [1, -1])
def test_run_over_one_card_leaves_the_other_alone(colour_index, cards, order):
    first, second = cards[::order]
    num_first, num_second = len(list(first.iterdir())), len(list(second.iterdir()))
    colour_index.update(first)
    before = records(colour_index)
    summary = colour_index.update(second)
    assert counts(summary) == {"indexed": num_second, "searchable": 5}
    assert {path: records(colour_index)[path].id for path in before} == {
        path: record.id for path, record in before.items()
    }
    assert counts(colour_index.update(first)) == {"unchanged": num_first, "searchable": 5}
    assert colour_index.decoded == []


def test_folder_and_a_folder_in_it_have_each_video_once(colour_index, film, tmp_path):
    film("videos/a.mp4", RED)
    film("videos/sub/b.mp4", GREEN)
    folders = [tmp_path / "videos/sub", tmp_path / "videos"]
    assert counts(colour_index.update(*folders)) == {"indexed": 2, "searchable": 2}
    before = ids(colour_index)
    for given in (folders[1:], folders[:1], folders[::-1]):
        summary = colour_index.update(*given)
        assert (summary.indexed, summary.moved, summary.searchable) == (0, 0, 2)
    assert ids(colour_index) == before


def test_folder_above_a_known_one_knows_its_videos(colour_index, film, tmp_path):
    film("videos/a.mp4", RED)
    film("b.mp4", GREEN)
    colour_index.update(tmp_path / "videos")
    before = ids(colour_index)
    assert counts(colour_index.update(tmp_path)) == {"indexed": 1, "unchanged": 1, "searchable": 2}
    assert ids(colour_index).items() > before.items()


# The same files by other names


@pytest.fixture
def videos(film, tmp_path):
    for name, colour in zip("abc", COLOURS.values(), strict=True):
        film(f"videos/{name}.mp4", colour)
    return tmp_path / "videos"


def absolute_paths(videos, path):
    path.write_text("".join(f"{video}\n" for video in sorted(videos.iterdir())))
    return path


def linked(videos, path):
    path.symlink_to(videos)
    return path


@pytest.mark.parametrize(
    ("name", "number"),
    [("file", 1), ("glob", 2), ("absolute", 3), ("relative", 1), ("linked", 3), ("linked file", 1)],
)
def test_files_of_an_indexed_folder_are_its_videos(colour_index, videos, tmp_path, name, number):
    colour_index.update(videos)
    before = records(colour_index)
    given = {
        "file": lambda: videos / "a.mp4",
        "glob": lambda: f"{videos}/[ab].mp4",
        "absolute": lambda: absolute_paths(videos, tmp_path / "list.txt"),
        "relative": lambda: write_list(tmp_path / "list.jsonl", {"video": "videos/b.mp4"}),
        "linked": lambda: linked(videos, tmp_path / "link"),
        "linked file": lambda: linked(videos, tmp_path / "link") / "c.mp4",
    }[name]()
    summary = colour_index.update(given)
    assert counts(summary) == {"unchanged": number, "searchable": 3}
    assert colour_index.decoded == []
    after = records(colour_index)
    assert {path: (r.id, r.root_and_key, r.public_id) for path, r in after.items()} == {
        path: (r.id, r.root_and_key, r.public_id) for path, r in before.items()
    }


def test_new_file_below_a_known_root_belongs_to_it(colour_index, videos, film):
    colour_index.update(videos)
    path = film("videos/new/d.mp4", RED, num_frames=8)
    assert counts(colour_index.update(path)) == {"indexed": 1, "searchable": 4}
    assert records(colour_index)[str(path)].key == "new/d.mp4"
    assert counts(colour_index.update(videos)) == {"unchanged": 4, "searchable": 4}


def test_what_a_list_says_stays_when_the_folder_is_indexed(colour_index, videos, tmp_path):
    path = write_list(tmp_path / "list.jsonl", {"video": "videos/a.mp4", "title": "A film"})
    colour_index.update(videos, path)
    assert records(colour_index)[str(videos / "a.mp4")].metadata == {"title": "A film"}
    for given in (videos, videos / "a.mp4", absolute_paths(videos, tmp_path / "list.txt")):
        colour_index.update(given)
        assert records(colour_index)[str(videos / "a.mp4")].metadata == {"title": "A film"}
    (videos / "a.mp4").rename(videos / "z.mp4")
    assert counts(colour_index.update(videos))["moved"] == 1
    assert records(colour_index)[str(videos / "z.mp4")].metadata == {"title": "A film"}
    colour_index.update(write_list(path, {"video": "videos/z.mp4"}))
    assert records(colour_index)[str(videos / "z.mp4")].metadata == {}


def test_absolute_paths_of_a_list_are_not_the_keys(colour_index, videos, tmp_path):
    (tmp_path / "lists").mkdir()
    colour_index.update(absolute_paths(videos, tmp_path / "lists/list.txt"))
    assert [record.key for record in records(colour_index).values()] == ["a.mp4", "b.mp4", "c.mp4"]
    before = ids(colour_index)
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}
    assert ids(colour_index) == before


# What is away


def test_drive_that_is_away_is_missing_and_found_again(colour_index, cards, tmp_path, caplog):
    colour_index.update(*cards)
    before = records(colour_index)
    cards[1].rename(tmp_path / "unplugged")
    summary = colour_index.update(*cards)
    assert counts(summary) == {"unchanged": 3, "missing": 2, "searchable": 5}
    assert {hit.video for hit in colour_index.search("red", k=2)} > {str(cards[1] / "IMG_0001.mp4")}
    line = report(colour_index)[str(cards[1] / "IMG_0000.mp4")]
    assert (line["action"], line["outcome"]) == ("missing", "missing")
    assert line["reason"] == f"{cards[1]}: no such file or folder"
    assert line["id"] == before[line["video"]].public_id
    assert "2 videos are missing" in caplog.text
    assert counts(colour_index.update(cards[1])) == {"missing": 2, "searchable": 5}
    (tmp_path / "unplugged").rename(cards[1])
    assert counts(colour_index.update(*cards)) == {"unchanged": 5, "searchable": 5}
    assert {path: record.id for path, record in records(colour_index).items()} == {
        path: record.id for path, record in before.items()
    }


def test_mount_point_that_is_left_empty_is_a_drive_that_is_away(colour_index, cards, tmp_path):
    colour_index.update(*cards)
    cards[0].rename(tmp_path / "unplugged")
    cards[0].mkdir()
    (cards[0] / "lost+found").mkdir()
    assert counts(colour_index.update(*cards)) == {"unchanged": 2, "missing": 3, "searchable": 5}
    assert "holds no video" in report(colour_index)[str(cards[0] / "IMG_0000.mp4")]["reason"]


def test_listed_files_that_are_away_are_missing(colour_index, videos, tmp_path):
    lines = [{"video": f"videos/{name}.mp4", "title": name} for name in "abcd"]
    path = write_list(tmp_path / "list.jsonl", *lines)
    assert counts(colour_index.update(path)) == {"indexed": 3, "missing": 1, "searchable": 3}
    before = ids(colour_index)
    videos.rename(tmp_path / "away")
    for prune in (False, True):
        summary = colour_index.update(path, prune=prune)
        assert counts(summary) == {"missing": 4, "searchable": 3}
    assert ids(colour_index) == before
    assert {line["reason"] for line in report(colour_index).values()} == {"no such file"}
    (tmp_path / "away").rename(videos)
    assert counts(colour_index.update(path)) == {"unchanged": 3, "missing": 1, "searchable": 3}


def test_list_that_is_away_with_its_videos(colour_index, videos, tmp_path):
    path = write_list(videos / "list.jsonl", *({"video": f"{name}.mp4"} for name in "abc"))
    colour_index.update(path)
    videos.rename(tmp_path / "away")
    assert counts(colour_index.update(path)) == {"missing": 3, "searchable": 3}


@pytest.fixture
def unreadable(monkeypatch):
    """Folders of this name cannot be read, as permissions would have it for all but root."""
    scandir, names = os.scandir, set()

    def refuse(path):
        if os.path.basename(str(path)) in names:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return names


def test_folder_that_cannot_be_read_keeps_its_videos(colour_index, videos, film, unreadable):
    film("videos/sub/d.mp4", RED, num_frames=8)
    colour_index.update(videos)
    unreadable.add("sub")
    (videos / "a.mp4").unlink()
    summary = colour_index.update(videos)
    assert counts(summary) == {
        **{"unchanged": 2, "failed": 1, "deleted": 1, "missing": 1, "searchable": 3}
    }
    lines = report(colour_index)
    assert lines[str(videos / "sub")]["reason"] == "the folder cannot be read (Permission denied)"
    assert lines[str(videos / "sub/d.mp4")]["outcome"] == "missing"
    assert counts(colour_index.update(videos, prune=True))["missing"] == 1
    unreadable.clear()
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "searchable": 3}


def test_root_that_cannot_be_read_keeps_its_videos(colour_index, videos, unreadable):
    colour_index.update(videos)
    unreadable.add("videos")
    assert counts(colour_index.update(videos)) == {"failed": 1, "missing": 3, "searchable": 3}


def test_linked_folder_whose_drive_is_away_keeps_its_videos(colour_index, videos, film, tmp_path):
    film("drive/d.mp4", RED, num_frames=8)
    (videos / "more").symlink_to(tmp_path / "drive")
    assert counts(colour_index.update(videos)) == {"indexed": 4, "searchable": 4}
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "missing": 1, "searchable": 4}
    (videos / "more").unlink()
    assert counts(colour_index.update(videos)) == {"unchanged": 3, "deleted": 1, "searchable": 3}


def test_folder_that_was_a_mount_point_keeps_its_videos(colour_index, videos, film, monkeypatch):
    film("videos/CARD/d.mp4", RED, num_frames=8)
    film("videos/sub/e.mp4", RED, num_frames=10)
    stat = os.stat

    def mounted(path, **options):
        status = stat(path, **options)
        if not str(path).endswith("/CARD"):
            return status
        return os.stat_result([*status[:2], status.st_dev + 1, *status[3:]])

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", mounted)
        colour_index.update(videos)
    for name in ("CARD", "sub"):
        shutil.rmtree(videos / name)  # as desktops do with the folder of a drive that is away
    assert counts(colour_index.update(videos)) == {
        **{"unchanged": 3, "missing": 1, "deleted": 1, "searchable": 4}
    }
    line = report(colour_index)[str(videos / "CARD/d.mp4")]
    assert line["reason"] == f"{videos / 'CARD'} is not mounted"


@pytest.mark.parametrize("prune", [False, True])
def test_sources_that_are_all_unknown_are_refused(colour_index, videos, tmp_path, prune):
    colour_index.update(videos)
    with pytest.raises(ValueError, match=r"videos=.*/vidoes: no such file or folder"):
        colour_index.update(tmp_path / "vidoes", prune=prune)
    assert len(records(colour_index)) == 3


def test_root_of_another_machine_with_the_same_path_is_away(tmp_path):
    (tmp_path / "a.mp4").write_text("a")
    signature = FileSignature(1, 2, "sha")
    mine, theirs = (
        VideoRecord(key, str(tmp_path / key), signature, "ok", root=root, id=i)
        for i, (key, root) in enumerate([("a.mp4", "laptop"), ("b.mp4", "desktop")])
    )
    collection = collect([read_source(str(tmp_path))], [mine, theirs])
    assert [item.root_and_key for item in collection.items] == [mine.root_and_key]
    assert [record.root_and_key for record, _ in collection.away] == [theirs.root_and_key]
    assert collection.removed == []
    collection = collect([read_source(str(tmp_path))], [mine, replace(theirs, root="laptop")])
    assert [record.root_and_key for record in collection.removed] == [("laptop", "b.mp4")]


# What is deleted


def test_without_prune_only_what_is_gone_from_a_given_folder_goes(colour_index, cards):
    colour_index.update(*cards)
    (cards[0] / "IMG_0000.mp4").unlink()
    (cards[1] / "IMG_0000.mp4").unlink()
    summary = colour_index.update(cards[0])
    assert counts(summary) == {"unchanged": 2, "deleted": 1, "searchable": 4}
    assert str(cards[1] / "IMG_0000.mp4") in records(colour_index)


def test_file_of_a_folder_deletes_nothing(colour_index, videos):
    colour_index.update(videos)
    (videos / "b.mp4").unlink()
    assert counts(colour_index.update(videos / "a.mp4")) == {"unchanged": 1, "searchable": 3}


def test_list_that_becomes_shorter_deletes_nothing_unless_asked(colour_index, videos, tmp_path):
    path = absolute_paths(videos, tmp_path / "list.txt")
    colour_index.update(path)
    path.write_text(f"{videos}/a.mp4\n")
    assert counts(colour_index.update(path)) == {"unchanged": 1, "searchable": 3}
    summary = colour_index.update(path, prune=True)
    assert counts(summary) == {"unchanged": 1, "deleted": 2, "searchable": 1}


def test_prune_deletes_what_no_source_lists(colour_index, cards):
    colour_index.update(*cards)
    summary = colour_index.update(cards[1], prune=True)
    assert counts(summary) == {"unchanged": 2, "deleted": 3, "searchable": 2}


def test_prune_empties_a_folder_that_is_empty_and_spares_one_that_is_away(
    colour_index, cards, tmp_path
):
    colour_index.update(*cards)
    cards[0].rename(tmp_path / "unplugged")
    assert counts(colour_index.update(*cards, prune=True))["missing"] == 3
    cards[0].mkdir()
    summary = colour_index.update(*cards, prune=True)
    assert counts(summary) == {"unchanged": 2, "deleted": 3, "searchable": 2}


def test_photos_stay_when_they_are_not_asked_for_again(colour_index, videos, tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(videos / "photo.png")
    assert counts(colour_index.update(videos, images=True)) == {"indexed": 4, "searchable": 4}
    assert counts(colour_index.update(videos)) == {"unchanged": 4, "searchable": 4}
    assert counts(colour_index.update(videos, prune=True)) == {
        **{"unchanged": 3, "deleted": 1, "searchable": 3}
    }


def test_pipe_that_is_listed_is_a_failure_with_its_reason(colour_index, videos, tmp_path):
    os.mkfifo(videos / "pipe.mp4")
    (tmp_path / "list.txt").write_text("videos/a.mp4\nvideos/pipe.mp4\nvideos\n")
    summary = colour_index.update(tmp_path / "list.txt")
    assert counts(summary) == {"indexed": 1, "failed": 2, "searchable": 1}
    assert report(colour_index)[str(videos / "pipe.mp4")]["reason"] == "is a FIFO, not a file"
    assert report(colour_index)[str(videos)]["reason"] == "is a folder, not a file"


# What moves, and keeps its name


def test_root_that_moves_as_a_whole_keeps_keys_and_ids(colour_index, videos, tmp_path):
    colour_index.update(videos)
    before = {
        record.key: (record.id, record.public_id) for record in records(colour_index).values()
    }
    videos.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/c.mp4").unlink()
    summary = colour_index.update(tmp_path / "elsewhere")
    assert counts(summary) == {"unchanged": 2, "deleted": 1, "searchable": 2}
    del before["c.mp4"]
    after = records(colour_index)
    assert {r.key: (r.id, r.public_id) for r in after.values()} == before
    assert {os.path.dirname(path) for path in after} == {str(tmp_path / "elsewhere")}


def test_new_folder_where_a_moved_one_was(colour_index, videos, film, tmp_path):
    colour_index.update(videos)
    before = ids(colour_index)
    videos.rename(tmp_path / "old")
    film("videos/a.mp4", BLUE, num_frames=8)
    summary = colour_index.update(videos, tmp_path / "old")
    assert counts(summary) == {"indexed": 1, "unchanged": 3, "searchable": 4}
    after = ids(colour_index)
    assert after[str(tmp_path / "old/a.mp4")] == before[str(videos / "a.mp4")]
    assert len(set(after.values())) == 4


def test_copy_of_a_root_is_another_root(colour_index, videos, tmp_path):
    colour_index.update(videos)
    before = ids(colour_index)
    shutil.copytree(videos, tmp_path / "copy")
    summary = colour_index.update(tmp_path / "copy")
    assert counts(summary) == {"indexed": 3, "searchable": 6}
    assert colour_index.decoded == []
    assert ids(colour_index).items() > before.items()


def test_moved_and_changed_videos_keep_their_ids(colour_index, videos, film):
    colour_index.update(videos)
    before = ids(colour_index)
    (videos / "a.mp4").rename(videos / "moved.mp4")
    film("videos/b.mp4", RED, num_frames=30)
    assert counts(colour_index.update(videos)) == {
        **{"indexed": 1, "moved": 1, "unchanged": 1, "searchable": 3}
    }
    film("videos/a.mp4", BLUE, num_frames=34)  # another video where one was that has moved
    colour_index.update(videos)
    after = ids(colour_index)
    assert after[str(videos / "moved.mp4")] == before[str(videos / "a.mp4")]
    assert after[str(videos / "b.mp4")] == before[str(videos / "b.mp4")]
    assert after[str(videos / "a.mp4")] not in before.values()


def test_index_made_anew_has_the_same_ids(colour_index, cards):
    colour_index.update(*cards)
    before = ids(colour_index)
    shutil.rmtree(colour_index.folder)
    colour_index.update(*cards[::-1])
    assert ids(colour_index) == before


def test_hits_have_the_id_that_the_report_has(colour_index, videos):
    colour_index.update(videos)
    for level in ("video", "moment"):
        for hit in colour_index.search("red", level=level):
            assert hit.id == report(colour_index)[hit.video]["id"] == ids(colour_index)[hit.video]
            assert len(hit.id) == 12
