"""DiDeMo and ActivityNet Captions, whose captions are paragraphs."""

import pytest

from reelseek.training.datasets import read_captioned
from tests.training.datasets.published import (
    ACTIVITYNET,
    DIDEMO,
    captions_by_key,
    touch,
    write_json,
    write_text,
)

MAN, BABY, DOG = dict.fromkeys(entry["video"] for entry in DIDEMO)


def test_didemo_joins_descriptions_in_the_order_of_the_file(tmp_path):
    path = write_json(tmp_path / "test_data.json", DIDEMO)
    items = read_captioned(path, videos=touch(tmp_path / "videos", MAN, BABY))
    assert captions_by_key(items) == {
        MAN: ["a man bends over the machine a man waves"],
        BABY: ["the baby is first shown."],
        "86091119@N00_8027493026_992e5e1068.mp4": ["a dog"],
    }


@pytest.mark.parametrize("ending", [".mov", ".mov.mp4", ".mp4", ".MOV", ".mov.avi"])
def test_didemo_video_is_found_under_another_suffix(tmp_path, ending):
    stem = MAN.partition(".")[0]
    path = write_json(tmp_path / "test_data.json", DIDEMO[:1])
    videos = touch(tmp_path / "videos", f"deep/{stem}{ending}", f"{stem}1.mov", f"{stem}.txt")
    assert [item.key for item in read_captioned(path, videos=videos)] == [f"deep/{stem}{ending}"]


@pytest.mark.parametrize("ending", ["mp4", ".mp4"])
def test_didemo_name_that_ends_in_a_dot_is_found(tmp_path, ending):
    path = write_json(tmp_path / "test_data.json", DIDEMO[3:])
    videos = touch(tmp_path / "videos", f"{DOG}{ending}")
    assert [item.key for item in read_captioned(path, videos=videos)] == [f"{DOG}{ending}"]


def test_didemo_list_chooses_videos(tmp_path):
    captions = write_json(tmp_path / "test_data.json", DIDEMO)
    path = write_text(tmp_path / "test_list.txt", f"{BABY}\n\n{MAN}\n")
    items = read_captioned(path, videos=touch(tmp_path / "videos"), captions=captions)
    assert [item.key for item in items] == [BABY, MAN]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"description": "a"}, "`video` is missing"),
        (["a.mov", "a"], "must be an object"),
    ],
)
def test_malformed_didemo_entry_is_named_with_its_number(tmp_path, entry, reason):
    path = write_json(tmp_path / "test_data.json", [*DIDEMO, entry])
    with pytest.raises(ValueError, match=rf"test_data\.json, entry 5: {reason}"):
        read_captioned(path, videos=touch(tmp_path / "videos"))


def test_activitynet_joins_sentences_and_finds_each_suffix(tmp_path):
    path = write_json(tmp_path / "val_1.json", ACTIVITYNET)
    videos = touch(tmp_path / "videos", "v_uqiMw7tQ1Cc.mkv", "val/v_-bXdq2zI1Ms.webm")
    assert captions_by_key(read_captioned(path, videos=videos)) == {
        "v_uqiMw7tQ1Cc.mkv": ["A tutorial is given. The coach helps the guy in red."],
        "val/v_-bXdq2zI1Ms.webm": ["A man hits a pi\u00f1ata."],
    }


def test_activitynet_video_is_found_without_its_prefix(tmp_path):
    path = write_json(tmp_path / "val_1.json", ACTIVITYNET)
    items = read_captioned(path, videos=touch(tmp_path / "videos", "-bXdq2zI1Ms.mp4"))
    assert [item.key for item in items] == ["v_uqiMw7tQ1Cc.mp4", "-bXdq2zI1Ms.mp4"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (["A man."], "video 'v_b': must be an object"),
    ],
)
def test_malformed_activitynet_video_is_named(tmp_path, entry, reason):
    path = write_json(tmp_path / "val_1.json", {**ACTIVITYNET, "v_b": entry})
    with pytest.raises(ValueError, match=rf"val_1\.json[,:] {reason}"):
        read_captioned(path, videos=touch(tmp_path / "videos"))


def test_file_of_captions_needs_no_other(tmp_path):
    path = write_json(tmp_path / "val_1.json", ACTIVITYNET)
    videos = touch(tmp_path / "videos")
    with pytest.raises(ValueError, match=r"leave out data\.captions=b\.json"):
        read_captioned(path, videos=videos, captions="b.json")
    with pytest.raises(ValueError, match=r"only MSR-VTT's JSON has splits: leave out :train"):
        read_captioned(f"{path}:train", videos=videos)


@pytest.mark.parametrize(
    ("entry", "captions"),
    [
        ({"duration": 3.0}, []),
        ({"sentences": "A man."}, ["A man."]),
        ({"sentences": ["A man.", None]}, ["A man."]),
        ({"sentences": [" "]}, []),
    ],
)
def test_activitynet_sentence_that_cannot_be_used_is_left_out(tmp_path, entry, captions):
    path = write_json(tmp_path / "val_1.json", {**ACTIVITYNET, "v_b": entry})
    items = read_captioned(path, videos=touch(tmp_path / "videos"))
    assert [item.captions for item in items][-1] == captions


@pytest.mark.parametrize("entry", [{}, {"description": 3}, {"description": " "}])
def test_didemo_description_that_cannot_be_used_is_left_out(tmp_path, entry, caplog):
    path = write_json(
        tmp_path / "test_data.json", [*DIDEMO, {"video": DIDEMO[0]["video"], **entry}]
    )
    expected = read_captioned(
        write_json(tmp_path / "good_data.json", DIDEMO), videos=touch(tmp_path / "videos")
    )
    assert read_captioned(path, videos=touch(tmp_path / "videos")) == expected
    assert f"{path}: 1 caption is left out: entry 5, `description` is " in caplog.messages[0]
