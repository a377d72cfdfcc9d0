import pytest

from reelseek.training.datasets import read_captioned
from tests.training.datasets.published import (
    MSRVTT,
    captions_by_key,
    touch,
    write_json,
    write_text,
)


@pytest.fixture
def videos(tmp_path):
    return touch(tmp_path / "videos", *(f"TrainVal/video{i}.mp4" for i in range(3)))


@pytest.fixture
def official(tmp_path):
    return write_json(tmp_path / "MSRVTT_data.json", MSRVTT)


def test_list_of_ids_takes_every_sentence_of_the_official_json(tmp_path, videos, official):
    path = write_text(
        tmp_path / "MSRVTT_train.9k.csv", "video_id\nvideo2\nvideo0\nvideo2\nvideo1\n"
    )
    items = read_captioned(path, videos=videos, captions=official)
    assert captions_by_key(items) == {
        "TrainVal/video2.mp4": ["a dog runs"],
        "TrainVal/video0.mp4": ["a man sings", "someone is singing"],
        "TrainVal/video1.mp4": ["a cat eats"],  # published twice
    }
    assert items[0].path == tmp_path / "videos" / "TrainVal" / "video2.mp4"


@pytest.mark.parametrize("with_captions", [True, False])
def test_1k_a_test_has_its_own_sentences(tmp_path, videos, official, with_captions):
    path = write_text(
        tmp_path / "MSRVTT_JSFUSION_test.csv",
        "key,vid_key,video_id,sentence\r\n"
        "ret0,msr1,video1,a person is connecting something to system\r\n"
        'ret1,msr9,video9,"one, two\u2028three"\r\n',
    )
    items = read_captioned(path, videos=videos, captions=official if with_captions else None)
    assert captions_by_key(items) == {
        "TrainVal/video1.mp4": ["a person is connecting something to system"],
        "video9.mp4": ["one, two three"],
    }
    assert items[1].path == tmp_path / "videos" / "video9.mp4"  # not there; later stages say so


@pytest.mark.parametrize(
    ("split", "keys"),
    [
        ("train", ["TrainVal/video0.mp4", "TrainVal/video1.mp4"]),
        ("validate", ["TrainVal/video2.mp4"]),
        ("test", ["video3.mp4"]),
    ],
)
def test_official_json_is_read_by_split(videos, official, split, keys):
    assert [item.key for item in read_captioned(f"{official}:{split}", videos=videos)] == keys


def test_official_json_of_one_split_needs_no_name(tmp_path, videos):
    only_test = {**MSRVTT, "videos": MSRVTT["videos"][3:]}
    path = write_json(tmp_path / "test_videodatainfo.json", only_test)
    items = read_captioned(path, videos=videos)
    assert captions_by_key(items) == {"video3.mp4": ["cars drive"]}


def test_split_that_is_not_named_or_not_there_says_which_there_are(videos, official):
    with pytest.raises(ValueError, match=r"holds 3 splits; name one: .*_data\.json:train, "):
        read_captioned(official, videos=videos)
    with pytest.raises(ValueError, match=r":val: has no such split; there are .*:validate"):
        read_captioned(f"{official}:val", videos=videos)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name\nvideo0\n", r"train\.csv: needs a column `video_id`, has \['name'\]"),
        ("key;video_id\nret0;video0\n", r"needs a column `video_id`, has \['key;video_id'\]"),
        ("", r"needs a column `video_id`, has \[\]"),
        ("key,video_id\nret0\n", r"line 2: must have 2 fields"),
        ("key,video_id\nret0,video0,more\n", r"line 2: must have 2 fields"),
        ("key,video_id\nret0,\n", r"line 2: `video_id` is missing"),
        ('video_id\n"video0\n', r"line 2: is not CSV"),
        ("video_id\n../video0\n", r"'../video0' is not the name of a video"),
        ("video_id,sentence\n../video0,a\n", r"'../video0' is not the name of a video"),
        ("video_id\n", r"holds no video"),
    ],
)
def test_malformed_list_is_named_with_its_line(tmp_path, videos, official, text, reason):
    path = write_text(tmp_path / "train.csv", text)
    with pytest.raises(ValueError, match=reason):
        read_captioned(path, videos=videos, captions=official)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sentences": [{"video_id": 3, "caption": "a"}]}, "sentence 1: `video_id`"),
        ({"sentences": ["a"]}, "sentence 1: must be an object"),
        ({"videos": [*MSRVTT["videos"], {"video_id": "video9"}]}, "video 5: `split`"),
        ({"sentences": {}}, "is JSON of no known format"),
    ],
)
def test_malformed_official_json_is_named_with_its_entry(tmp_path, videos, change, reason):
    path = write_json(tmp_path / "MSRVTT_data.json", {**MSRVTT, **change})
    with pytest.raises(ValueError, match=f"MSRVTT_data.json(, |: ){reason}"):
        read_captioned(f"{path}:train", videos=videos)


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ({}, "is missing"),
        ({"caption": None}, "is missing"),
        ({"caption": " \n"}, "is blank"),
        ({"caption": 3}, "is 3, not text"),
    ],
)
def test_caption_that_cannot_be_used_is_named_and_left_out(
    tmp_path, videos, caplog, caption, fault
):
    sentences = [*MSRVTT["sentences"], {"video_id": "video0", **caption}]
    good, bad = (
        write_json(tmp_path / name, MSRVTT | {"sentences": part})
        for name, part in (("good.json", MSRVTT["sentences"]), ("bad.json", sentences))
    )
    expected, found = (read_captioned(f"{path}:train", videos=videos) for path in (good, bad))
    assert found == expected
    assert caplog.messages == [f"{bad}: 1 caption is left out: sentence 7, `caption` {fault}"]


def test_listed_video_whose_sentence_is_blank_has_none(tmp_path, videos, caplog):
    path = write_text(tmp_path / "test.csv", "video_id,sentence\nvideo0,a\nvideo1,\n")
    assert [item.captions for item in read_captioned(path, videos=videos)] == [["a"], []]
    assert caplog.messages == [f"{path}: 1 caption is left out: line 3, `sentence` is blank"]
