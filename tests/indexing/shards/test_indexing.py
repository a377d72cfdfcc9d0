"""Runs of the indexer over an index in shards: one pipeline, and the outcome of an ordinary run."""

import shutil
from contextlib import closing

import pytest

from reelseek.indexing import IndexReader, Manifest
from reelseek.indexing.shards.opening import open_catalogue
from reelseek.indexing.tools.verify import find_problems
from tests.conftest import COLOURS
from tests.indexing.searching import search_words
from tests.indexing.test_indexer import counts, videos

__all__ = ["videos"]


def ids(index) -> dict[str, str]:
    with closing(open_catalogue(index.folder)) as catalogue:
        return {key: public_id for (_, key), public_id in catalogue.public_ids().items()}


@pytest.fixture
def sharded(colour_index, videos, write_video):
    """Three films, four copies of one of them, and an index of all in four shards."""
    for number in range(4):
        shutil.copy(videos / "a.mp4", videos / f"copy{number}.mp4")
    (videos / "broken.mp4").write_bytes(b"no video")
    summary = colour_index.update(videos, num_shards=4)
    assert counts(summary) == {"indexed": 7, "failed": 1, "searchable": 7}
    return colour_index


@pytest.mark.usefixtures("without_words")
def test_a_copy_is_decoded_once_whatever_its_shard(sharded, videos):
    copies = {"a.mp4", *(f"copy{number}.mp4" for number in range(4))}
    assert sorted(sharded.decoded)[-3:] == ["b.mp4", "broken.mp4", "c.mp4"]
    assert len(sharded.decoded) == 4
    manifest = Manifest.read(sharded.folder)
    own = [shard.num_videos for shard in manifest.shard_manifests(sharded.folder).values()]
    assert len(own) == 4 and sum(own) == 7 and max(own) < 7
    (hit, *_) = sharded.search("red")
    assert {hit.key, *(copy.key for copy in hit.also_as)} == copies
    assert set(sharded.report()) == {*copies, "b.mp4", "c.mp4", "broken.mp4"}
    assert list(find_problems(sharded.folder)) == []


@pytest.mark.usefixtures("without_words")
def test_what_has_changed_moved_or_gone(sharded, videos, write_video):
    before = ids(sharded)
    assert counts(sharded.update(videos)) == {"unchanged": 7, "failed": 1, "searchable": 7}
    assert sharded.decoded == []
    for number in range(4):
        (videos / f"copy{number}.mp4").unlink()
    (videos / "b.mp4").rename(videos / "renamed.mp4")
    write_video("c.mp4", [COLOURS["red"]] * 14, fps=2, folder=videos)
    summary = sharded.update(videos)
    assert counts(summary) == {
        **{"indexed": 1, "unchanged": 1, "moved": 1, "failed": 1, "deleted": 4},
        "searchable": 3,
    }
    assert sharded.decoded == ["c.mp4"]
    after = ids(sharded)
    assert after["renamed.mp4"] == before["b.mp4"] and after["c.mp4"] == before["c.mp4"]
    assert {hit.key for hit in sharded.search("red")} == {"a.mp4", "renamed.mp4", "c.mp4"}
    assert sharded.search("green")[0].key == "renamed.mp4"
    assert list(find_problems(sharded.folder)) == []


def test_subtitles_are_read_beside_the_videos_of_every_shard(colour_index, videos):
    pytest.importorskip("tantivy")
    for name, said in (("a", "hello"), ("b", "goodbye"), ("c", "thanks")):
        text = f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n"
        (videos / f"{name}.srt").write_text(text)
    colour_index.update(videos, num_shards=3)
    with closing(IndexReader(colour_index.folder)) as reader:
        (hit,) = search_words(reader, ["goodbye"], k=5, level="moment")
    assert (hit.key, hit.start_seconds) == ("b.mp4", 1.0)


@pytest.mark.usefixtures("without_words")
def test_scenes_are_cut_by_one_spread(colour_index, colour_settings, videos, write_video):
    for number in range(8):
        write_video(
            f"{number}.mp4", [list(COLOURS.values())[number % 3]] * (6 + number), folder=videos
        )
    segments = {"kind": "scenes", "seconds": 4.0, "overlap_seconds": 2.0}
    settings = type(colour_settings)(**{**vars(colour_settings), "segments": segments})
    colour_index.update(videos, num_shards=2, settings=settings)
    manifest = Manifest.read(colour_index.folder)
    assert manifest.frame_spread > 0
    shards = manifest.shard_manifests(colour_index.folder)
    assert {Manifest.read(shard).frame_spread for shard in shards} == {manifest.frame_spread}
