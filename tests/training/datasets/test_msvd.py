import collections
import os
import pickle

import pytest

from reelseek.training.datasets import read_captioned
from tests.training.datasets.published import (
    MSVD_DESCRIPTIONS,
    MSVD_PICKLE,
    captions_by_key,
    touch,
    write_text,
)


@pytest.fixture
def videos(tmp_path):
    return touch(tmp_path / "YouTubeClips", "-4wsuPCjDBc_5_15.avi", "bQJQGo_F7_k_162_169.avi")


@pytest.fixture
def listed(tmp_path):
    return write_text(tmp_path / "train_list.txt", "bQJQGo_F7_k_162_169\n-4wsuPCjDBc_5_15\n")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_words(tmp_path, videos, listed, protocol):
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(pickle.dumps(MSVD_PICKLE, protocol))
    assert captions_by_key(read_captioned(listed, videos=videos, captions=str(path))) == {
        "bQJQGo_F7_k_162_169.avi": ["a man cuts a carrot"],
        "-4wsuPCjDBc_5_15.avi": ["a squirrel is eating", "a chipmunk eats"],
    }


def test_text_of_descriptions(tmp_path, videos, listed):
    path = write_text(tmp_path / "AllVideoDescriptions.txt", MSVD_DESCRIPTIONS)
    assert captions_by_key(read_captioned(listed, videos=videos, captions=path)) == {
        "bQJQGo_F7_k_162_169.avi": ["a man cuts a carrot"],
        "-4wsuPCjDBc_5_15.avi": [
            "a squirrel is eating a peanut in it's shell",
            "a chipmunk is eating",  # published twice
        ],
    }


class RunsCommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_would_run_a_command_is_refused_unrun(tmp_path, videos, listed, protocol):
    path = tmp_path / "raw-captions.pkl"
    command = f"touch {tmp_path}/was-run"
    path.write_bytes(pickle.dumps({"a_1_2": RunsCommand(command)}, protocol))
    with pytest.raises(ValueError, match=r"\.pkl: is not .*'(posix|nt)\.system', and could run"):
        read_captioned(listed, videos=videos, captions=str(path))
    assert not (tmp_path / "was-run").exists()


class IsElsewhere(pickle.Pickler):
    def persistent_id(self, value):
        return "elsewhere" if value == "a man" else None


def persistent_pickle(path):
    with path.open("wb") as file:
        IsElsewhere(file).dump({"a_1_2": ["a man"]})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(collections.OrderedDict(a=[])), r"'collections\.OrderedDict'"),
        (b"cline\nbreak\nline\n.", r"'line\.break'"),
        (pickle.dumps(MSVD_PICKLE)[:-20], "is not a pickle"),
        (b"", "is not a pickle"),
        (b"hello", "is not a pickle"),
        (b"\x80\x04\x8c\x02\xff\xff.", "is not a pickle"),
        (b"(lp0\nh\x09.", "is not a pickle"),
        (pickle.dumps([["a"]]), "must hold a dictionary of captions, is"),
        (pickle.dumps({3: [["a"]]}), "entry 1: must be a video id with a list"),
        (pickle.dumps({"a_1_2": "a"}), "entry 1: must be a video id with a list"),
    ],
)
def test_pickle_of_anything_else_is_one_line(tmp_path, videos, listed, content, reason):
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as raised:
        read_captioned(listed, videos=videos, captions=str(path))
    assert "\n" not in str(raised.value)


def test_pickle_that_refers_elsewhere_is_refused(tmp_path, videos, listed):
    persistent_pickle(tmp_path / "raw-captions.pkl")
    with pytest.raises(ValueError, match="an object outside of itself"):
        read_captioned(listed, videos=videos, captions=str(tmp_path / "raw-captions.pkl"))


def test_description_without_an_id_is_named_with_its_line(tmp_path, videos, listed):
    path = write_text(tmp_path / "All.txt", MSVD_DESCRIPTIONS + "a man walks\n")
    with pytest.raises(ValueError, match=r"All\.txt, line 8: must begin with an id such as"):
        read_captioned(listed, videos=videos, captions=path)


def test_listed_video_without_a_caption_has_none(tmp_path, videos, listed):
    path = write_text(tmp_path / "All.txt", "-4wsuPCjDBc_5_15 a squirrel\nbQJQGo_F7_k_162_169\n")
    items = read_captioned(listed, videos=videos, captions=path)
    assert sorted(item.captions for item in items) == [[], ["a squirrel"]]


def test_words_that_are_no_words_are_named_and_left_out(tmp_path, videos, listed, caplog):
    captions = {"-4wsuPCjDBc_5_15": [["a", 3], ["a", "squirrel"], [], ["a", "squirrel"]]}
    (tmp_path / "some.pkl").write_bytes(pickle.dumps(captions))
    items = read_captioned(listed, videos=videos, captions=str(tmp_path / "some.pkl"))
    assert sorted(item.captions for item in items) == [[], ["a squirrel"]]
    assert caplog.messages == [
        f"{tmp_path}/some.pkl: 2 captions are left out: '-4wsuPCjDBc_5_15', caption 1 is ['a', 3], "
        "not text; '-4wsuPCjDBc_5_15', caption 3 is blank"
    ]


def test_list_without_captions_says_which_option_to_add(videos, listed, tmp_path):
    with pytest.raises(ValueError, match=r"train_list\.txt: .*add data\.captions=FILE"):
        read_captioned(listed, videos=videos)
    with pytest.raises(ValueError, match=r"data\.captions=gone\.pkl: no such file"):
        read_captioned(listed, videos=videos, captions="gone.pkl")
    with pytest.raises(ValueError, match=r"must be a \.json, \.pkl or \.txt"):
        read_captioned(listed, videos=videos, captions=write_text(tmp_path / "a.yaml", "a"))
