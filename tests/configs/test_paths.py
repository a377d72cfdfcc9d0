from dataclasses import fields, is_dataclass

import pytest

from reelseek.configs.composition import compose
from reelseek.configs.paths import expand_path
from tests.command_lines import SCHEMAS


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLIPS", "/mnt/clips")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("~", "HOME"),
        ("~/Videos/a b.mp4", "HOME/Videos/a b.mp4"),
        ("$HOME/Videos", "HOME/Videos"),
        ("${HOME}/Videos/*.mp4", "HOME/Videos/*.mp4"),
        ("$CLIPS/[ab].mp4", "/mnt/clips/[ab].mp4"),
        ("a~b/c~", "a~b/c~"),
        ("costs $5/${no such thing}", "costs $5/${no such thing}"),
        ("/videos/~me", "/videos/~me"),
    ],
)
def test_home_and_variables_are_expanded_and_nothing_else(home, given, expanded):
    assert expand_path(given) == expanded.replace("HOME", home)


def test_file_that_is_really_called_so_is_meant(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    (tmp_path / "$CLIPS").mkdir()
    assert expand_path("~") == "~"
    assert expand_path("$CLIPS") == "$CLIPS"
    assert expand_path("~/new") == f"{home}/new"


def composed(config_name, *arguments):
    """What `main` gets to see of these arguments."""
    return compose(SCHEMAS[config_name], arguments)


def test_paths_of_all_depths_and_lists_are_expanded(home):
    config = composed("index", "videos=~/Videos", "index=$HOME/index", "model=~/my-model")
    assert config.videos == [f"{home}/Videos"]
    assert config.index.folder == f"{home}/index"
    assert config.model.name == f"{home}/my-model"
    config = composed("merge", "sources=~/a", "index=~/b")
    assert (config.sources, config.index) == ([f"{home}/a"], f"{home}/b")
    config = composed("train", "data.train=~/t.jsonl", "data.val=~/v.jsonl", "output=~/out")
    assert (config.data.train, config.output) == ([f"{home}/t.jsonl"], f"{home}/out")


def test_dollars_and_braces_of_a_name_survive(home):
    config = composed("search", "index=~/${not a variable}", "query=~ and $HOME")
    assert config.index == f"{home}/${{not a variable}}"
    assert config.query == "~ and $HOME"


def options_of(schema, prefix=""):
    for field in fields(schema):
        if is_dataclass(field.type):
            yield from options_of(field.type, f"{prefix}{field.name}.")
        elif "help" in field.metadata:
            yield f"{prefix}{field.name}", field.metadata


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_option_that_speaks_of_a_folder_or_a_file_is_a_path(name):
    for option, metadata in options_of(SCHEMAS[name]):
        text = metadata["help"]
        if text.startswith(("folder", "the folder", "file", "a folder", "an image to", "a .jsonl")):
            assert metadata["is_path"], option
