import json
import logging

import numpy as np
import pytest

from reelseek.indexing import VideoItem
from reelseek.training.data import assemble
from reelseek.training.frame_cache import CachedVideo
from reelseek.training.lists import check_failed, read_lists, warn_of_overlap


@pytest.fixture
def write_list(tmp_path):
    def write(name, *records):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return str(path)

    return write


def read_all(tmp_path, *names):
    return read_lists(names, videos=None, captions=None, cache_folder=tmp_path / "shards")


def read(tmp_path, *names):
    return read_all(tmp_path, *names).items


# Lists.


def test_lists_are_merged_by_path(write_list, tmp_path):
    names = [
        write_list(
            "one.jsonl",
            {"video": "a.mp4", "captions": ["a dog", "a cat"]},
            {"video": "b.mp4", "captions": ["b"]},
        ),
        write_list(
            "other/two.jsonl",
            {"video": "../a.mp4", "captions": ["a cat", "a bird"]},
            {"video": "b.mp4", "captions": ["another video of this name"]},
        ),
    ]
    items = read(tmp_path, *names)
    assert [item.path for item in items] == [
        tmp_path / "a.mp4",
        tmp_path / "b.mp4",
        tmp_path / "other" / "b.mp4",
    ]
    assert [item.key for item in items] == [str(item.path) for item in items]
    assert [item.captions for item in items] == [
        ["a dog", "a cat", "a bird"],
        ["b"],
        ["another video of this name"],
    ]


def test_merging_leaves_the_first_list_as_it_was(write_list, tmp_path):
    name = write_list("one.jsonl", {"video": "a.mp4", "captions": ["a dog"]})
    assert read(tmp_path, name, name)[0].captions == ["a dog"]


def test_source_is_what_the_list_says_or_its_name(write_list, tmp_path):
    names = [
        write_list(
            "mixed.jsonl",
            {"video": "a.mp4", "captions": ["a"], "source": "msrvtt"},
            {"video": "b.mp4", "captions": ["b"]},
        ),
        write_list(
            "more.v2.jsonl",
            {"video": "b.mp4", "captions": ["c"], "source": "later"},
            {"video": "c.mp4", "captions": ["c"], "source": 7},
        ),
    ]
    sources = [item.metadata["source"] for item in read(tmp_path, *names)]
    assert sources == ["msrvtt", "mixed", "7"]


def test_video_without_captions_is_left_out_and_named(write_list, tmp_path):
    good = write_list("good.jsonl", {"video": "a.mp4", "captions": ["a"]}, {"video": "c.mp4"})
    more = write_list(
        "more.jsonl",
        {"video": "b.mp4", "captions": [" ", None]},
        {"video": "a.mp4"},
        {"video": "c.mp4", "captions": ["c"]},
    )
    lists = read_all(tmp_path, good, more)
    assert [(item.path.name, item.captions) for item in lists.items] == [
        ("a.mp4", ["a"]),
        ("c.mp4", ["c"]),
    ]
    assert lists.uncaptioned == [(f"{tmp_path}/b.mp4", "has no caption")]


def test_list_without_any_caption_is_named_with_what_it_has(write_list, tmp_path):
    good = write_list("good.jsonl", {"video": "a.mp4", "captions": ["a"]})
    bad = write_list("bad.jsonl", {"video": "a.mp4", "caption": "a"}, {"video": "b.mp4", "id": 3})
    with pytest.raises(ValueError, match=r"has `captions`.*; it has caption, id beside") as caught:
        read(tmp_path, good, bad)
    assert str(caught.value).startswith(f"{bad}: none of its 2 videos")


def test_captions_of_a_list_are_each_once_in_their_order(write_list, tmp_path):
    name = write_list(
        "one.jsonl",
        {"video": "b.mp4", "captions": ["z", " a", "z"]},
        {"video": "a.mp4", "captions": ["a", "b"]},
    )
    assert read_all(tmp_path, name).captions == ["z", "a", "b"]


def test_no_list_is_no_video(tmp_path):
    assert read(tmp_path) == []


# Together with their frames.


def item(key, *captions, source="list"):
    return VideoItem(key, key, {"captions": list(captions), "source": source})


def test_videos_that_are_not_cached_are_left_out_with_their_captions():
    cached = {key: CachedVideo(key, np.zeros((1, 2), np.float16)) for key in ("c", "a")}
    items = [item("a", "1", "2", source="x"), item("b", "3", source="y"), item("c", "4")]
    collection = assemble(items, cached)
    assert collection.videos == [cached["a"], cached["c"]]
    assert collection.captions == [["1", "2"], ["4"]]
    assert collection.sources == ["x", "list"]


# What failed.


def failed(num):
    return [(f"/v/{i}.mp4", f"reason {i}") for i in range(num)]


def check(report, num_failed, *, num_videos=10, max_failed_fraction=0.2):
    check_failed(
        failed(num_failed),
        num_videos=num_videos,
        max_failed_fraction=max_failed_fraction,
        report=report,
    )


@pytest.mark.parametrize(
    ("num_failed", "num_videos", "max_failed_fraction", "is_refused"),
    [
        (2, 10, 0.2, False),
        (3, 10, 0.2, True),
        (1, 10, 0.0, True),
        (9, 10, 1.0, False),
        (10, 10, 1.0, True),  # all of them
        (1, 1, 1.0, True),
    ],
)
def test_share_that_may_fail(tmp_path, num_failed, num_videos, max_failed_fraction, is_refused):
    report = tmp_path / "failed.tsv"
    what = f"{num_failed} of {num_videos} videos are missing, broken or without captions"
    shown = f"^{what}.*max_failed_fraction={max_failed_fraction} "
    if is_refused:
        with pytest.raises(ValueError, match=shown) as caught:
            check(
                report, num_failed, num_videos=num_videos, max_failed_fraction=max_failed_fraction
            )
        message = str(caught.value)
        assert "/v/0.mp4: reason 0" in message
        assert str(report) in message
        assert message.count("reason") == min(num_failed, 3)
    else:
        check(report, num_failed, num_videos=num_videos, max_failed_fraction=max_failed_fraction)
    assert len(report.read_text().splitlines()) == num_failed


def test_failed_videos_are_listed_and_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        check(tmp_path / "failed.tsv", 2)
    assert (tmp_path / "failed.tsv").read_text() == "/v/0.mp4\treason 0\n/v/1.mp4\treason 1\n"
    assert caplog.messages == [f"left out: /v/{i}.mp4: reason {i}" for i in range(2)]


def test_path_that_is_not_utf8_is_listed(tmp_path):
    name = "/v/\udcff.mp4"
    check_failed(
        [(name, "no")], num_videos=9, max_failed_fraction=1.0, report=tmp_path / "failed.tsv"
    )
    assert (tmp_path / "failed.tsv").read_text() == "/v/\\udcff.mp4\tno\n"


def test_nothing_failed_writes_nothing(tmp_path):
    check(tmp_path / "failed.tsv", 0)
    assert list(tmp_path.iterdir()) == []


# Trained on and measured on.


def test_videos_in_both_lists_are_warned_of(caplog):
    warn_of_overlap([item("a"), item("c"), item("b")], [item("d"), item("c"), item("b")])
    (message,) = caplog.messages
    assert message.startswith("2 videos are in data.train and in data.val")
    assert message.endswith("the first: b")


def test_lists_that_share_nothing_are_not_warned_of(caplog):
    warn_of_overlap([item("a")], [item("b")])
    assert caplog.messages == []
