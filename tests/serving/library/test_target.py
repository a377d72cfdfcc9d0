"""What is served: an index, or videos with an index of their own."""

import pytest

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.flags import as_item
from reelseek.serving.library.state import StateToken
from reelseek.serving.library.target import Target, resolve_target
from tests.indexing.small_index import random_index


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "reelseek.serving.library.target.user_data_path", lambda name: tmp_path / "data" / name
    )
    return tmp_path / "data"


@pytest.fixture
def index(tmp_path):
    random_index(tmp_path / "index", 2)
    return tmp_path / "index"


def resolve(*arguments):
    return resolve_target(compose(ServeConfig, list(arguments)))


def test_folder_with_a_manifest_is_an_index(index):
    assert resolve(f"videos={index}") == Target(index)
    assert resolve(f"index={index}") == Target(index)


def test_videos_get_an_index_outside_their_folder(tmp_path, data_folder):
    films = tmp_path / "My films (2024)"
    films.mkdir()
    target = resolve(f"videos={films}")
    assert target.videos == (str(films),)
    assert target.index.parent == data_folder / "reelseek" / "libraries"
    assert target.index.name.startswith("My-films-2024-")
    assert not target.index.exists()
    assert list(films.iterdir()) == []
    (tmp_path / "other" / films.name).mkdir(parents=True)
    assert resolve(f"videos={tmp_path}/other/{films.name}").index != target.index
    assert resolve(f"videos={films}", f"index={tmp_path}/own").index == tmp_path / "own"


def test_globs_and_lists_are_videos(tmp_path):
    films = tmp_path / "films"
    (films / "[2024]").mkdir(parents=True)
    (films / "list.txt").write_text("a.mp4\n")
    # A glob may match nothing yet, and a folder may be called like one.
    for name in ("*.mp4", "**/clip?.mp4", "[2024]", "list.txt"):
        target = resolve(f"videos={as_item(str(films / name))}")
        assert target.videos == (str(films / name),)
    assert resolve(f"videos={films}/*.mp4").index.name.startswith("films-")


def test_order_of_folders_does_not_choose_the_index(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    there = resolve(f"videos={tmp_path}/a", f"videos={tmp_path}/b").index.name[-8:]
    assert there == resolve(f"videos={tmp_path}/b", f"videos={tmp_path}/a").index.name[-8:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a folder of videos"),
        (["videos=/nowhere/at all"], "videos=/nowhere/at all: no such file or folder"),
        (["videos=/nowhere/*.mp4"], r"videos=/nowhere/\*.mp4: no such file or folder"),
        (["index=/nowhere"], "no such folder"),
        (["videos={index}", "videos={index}/.."], "is an index; give it alone"),
        (["videos={index}", "index={index}"], "is an index; give it alone"),
        (["index={index}/.."], "is not an index"),
    ],
)
def test_mistakes_are_one_line(index, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        resolve(*(argument.format(index=index) for argument in arguments))
    assert "\n" not in str(raised.value)


def test_tokens_are_compared_and_read_back():
    token = StateToken(12, 345)
    assert StateToken.parse(str(token)) == token
    assert token < StateToken(13, 345)
    for wrong in ("", "12", "12.", "a.b", "1.2.3", "\u0661.2", "1.2\n", "9" * 30 + ".1"):
        with pytest.raises(ValueError, match="no token"):
            StateToken.parse(wrong)
