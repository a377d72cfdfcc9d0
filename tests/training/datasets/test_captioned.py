import json

import pytest

from reelseek.training.datasets import read_captioned
from tests.training.datasets.published import ACTIVITYNET, touch, write_json, write_text


def test_jsonl_is_read_as_everywhere(tmp_path):
    path = write_text(tmp_path / "a.jsonl", json.dumps({"video": "v/a.mp4", "captions": ["one"]}))
    (item,) = read_captioned(path)
    assert (item.key, item.path) == ("v/a.mp4", tmp_path / "v" / "a.mp4")
    assert item.metadata == {"captions": ["one"]}


@pytest.mark.parametrize("option", ["videos", "captions"])
def test_jsonl_brings_its_videos_and_captions_itself(tmp_path, option):
    path = write_text(tmp_path / "a.jsonl", json.dumps({"video": "a.mp4", "captions": ["one"]}))
    with pytest.raises(ValueError, match=rf"leave out data\.{option}=X"):
        read_captioned(path, **{option: "X"})


@pytest.mark.parametrize("name", ["list.csv", "list.txt", "val_1.json"])
def test_missing_folder_of_videos_says_which_option_to_add(tmp_path, name):
    captions = None
    if name == "val_1.json":
        path = write_json(tmp_path / name, ACTIVITYNET)
    else:
        path = write_text(tmp_path / name, "video_id,sentence\nv_a,one\n")
        captions = write_json(tmp_path / "captions.json", ACTIVITYNET)
    with pytest.raises(ValueError, match=rf"{name}: .*add data\.videos=DIR"):
        read_captioned(path, captions=captions)
    with pytest.raises(ValueError, match=r"data\.videos=.*gone: no such folder"):
        read_captioned(path, videos=str(tmp_path / "gone"), captions=captions)


@pytest.mark.parametrize("name", ["a.mp4", "a.yaml", "folder", "noend"])
def test_unknown_file_lists_what_is_known(tmp_path, name):
    touch(tmp_path, "a.mp4", "a.yaml", "noend", "folder/a.mp4")
    with pytest.raises(ValueError, match=r"is in no known format; known are a \.jsonl .*MSVD"):
        read_captioned(str(tmp_path / name), videos=str(tmp_path))


@pytest.mark.parametrize("value", [3, "a", {}, {"a": 3}, ["a"], {"videos": [], "sentences": 3}])
def test_json_of_another_shape_lists_what_is_known(tmp_path, value):
    with pytest.raises(ValueError, match=r"a\.json: is JSON of no known format; known are"):
        read_captioned(write_json(tmp_path / "a.json", value), videos=str(tmp_path))


@pytest.mark.parametrize("name", ["gone.json", "gone.json:train", "gone.csv", "gone", "x" * 300])
def test_what_is_not_there_is_one_line(tmp_path, name):
    with pytest.raises(ValueError, match=r"no such file|cannot be read"):
        read_captioned(str(tmp_path / name), videos=str(tmp_path))


def test_empty_name_says_what_to_give():
    with pytest.raises(ValueError, match=r"data is empty: name a \.jsonl"):
        read_captioned("")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"caf\xe9": 1}', r"is not UTF-8 text \(byte 5\)"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"", "is not JSON"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json: {reason}"):
        read_captioned(str(tmp_path / "a.json"), videos=str(tmp_path))


def test_byte_order_mark_and_carriage_returns_are_no_part_of_a_list(tmp_path):
    captions = write_json(tmp_path / "captions.json", ACTIVITYNET)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfv_uqiMw7tQ1Cc\r\n\r\nv_-bXdq2zI1Ms\r\n")
    items = read_captioned(str(tmp_path / "list.txt"), videos=str(tmp_path), captions=captions)
    assert [item.key for item in items] == ["v_uqiMw7tQ1Cc.mp4", "v_-bXdq2zI1Ms.mp4"]


def test_of_two_files_of_one_name_the_upper_one_is_taken(tmp_path, caplog):
    path = write_json(tmp_path / "val_1.json", ACTIVITYNET)
    name = "v_uqiMw7tQ1Cc"
    videos = touch(tmp_path / "videos", f"a/{name}.mp4", f"{name}.webm", f".trash/{name}.mkv")
    assert read_captioned(path, videos=videos)[0].key == f"{name}.webm"
    assert "1 files have the name of another video" in caplog.text


def test_whole_name_goes_before_one_that_is_longer(tmp_path):
    path = write_json(tmp_path / "val_1.json", ACTIVITYNET)
    name = "v_uqiMw7tQ1Cc"
    videos = touch(tmp_path / "videos", f"{name}.f137.mp4", f"low/{name}.mp4", "uqiMw7tQ1Cc.mp4")
    assert read_captioned(path, videos=videos)[0].key == f"low/{name}.mp4"


def test_paths_are_absolute_though_the_folder_is_named_relatively(tmp_path, monkeypatch):
    write_json(tmp_path / "val_1.json", ACTIVITYNET)
    touch(tmp_path / "videos", "v_uqiMw7tQ1Cc.mp4")
    monkeypatch.chdir(tmp_path)
    items = read_captioned("val_1.json", videos="videos")
    assert items[0].path == tmp_path / "videos" / "v_uqiMw7tQ1Cc.mp4"
