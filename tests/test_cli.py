"""The command `reelseek`: its flags become the arguments of the other command lines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reelseek import cli
from reelseek.configs import command_line
from reelseek.configs.arguments import prepare_arguments
from reelseek.configs.options import find_option
from reelseek.configs.schema import IndexConfig
from reelseek.flags import as_item, command_flags
from tests.command_lines import assert_user_error, run_reelseek_here


@pytest.fixture
def arguments_of(monkeypatch):
    """What `reelseek ...` hands on: the name of a configuration, and the arguments."""

    def of(*words):
        seen = {}

        def run(main, schema, *, usage, arguments):
            seen["arguments"] = (schema.command, arguments)

        monkeypatch.setattr(command_line, "run", run)
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        assert end.value.code == 0
        return seen["arguments"]

    monkeypatch.setenv("REELSEEK_INDEX", "D")
    return of


def reelseek(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "reelseek", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"COLUMNS": "100", "REELSEEK_TRACEBACK": ""} | environment,
        check=False,
    )


# Flags.


@pytest.mark.parametrize(
    ("typed", "config_name", "arguments"),
    [
        (["index", "v"], "index", ["index=D", "videos=v"]),
        (["index", "a", "b", "--index", "I"], "index", ["videos=a", "videos=b", "index.folder=I"]),
        (
            ["index", "v", "sampling=shots", "decoding.workers=2"],
            "index",
            ["index=D", "videos=v", "sampling=shots", "decoding.workers=2"],
        ),
        (
            ["index", "v", "--retry-failed", "--no-prune", "--decoding.memory-gb", "2"],
            "index",
            ["index=D", "videos=v", "decoding.memory_gb=2", "prune=false", "retry_failed=true"],
        ),
        (
            ["search", "a dog catches a frisbee", "-k", "5", "--level", "moment", "--json"],
            "search",
            ["index=D", "query=a dog catches a frisbee", "k=5", "level=moment", "json=true"],
        ),
        (["search", "a dog", "index=E"], "search", ["query=a dog", "index=E"]),
        (["search", "x = 5", "-k", "5", "k=6"], "search", ["index=D", "query=x = 5", "k=5", "k=6"]),
        (["status"], "status", ["index=D"]),
        (["delete", "a.mp4", "b.mp4"], "delete", ["index=D", "keys=a.mp4", "keys=b.mp4"]),
        (["delete", "--where", "tag = 'old'"], "delete", ["index=D", "where=tag = 'old'"]),
        (["merge", "a", "b"], "merge", ["index=D", "sources=a", "sources=b"]),
        (["shard", "--shards", "3"], "shard", ["index=D", "shards=3"]),
        (["export", "-o", "O"], "export", ["index=D", "output=O"]),
        (["publish", "s3://B/N"], "publish", ["index=D", "to=s3://B/N"]),
        (["enrich", "--ocr"], "enrich", ["index=D", "ocr=true"]),
        (
            ["train", "--train", "A", "--val", "B", "--model", "mini", "--output", "O"],
            "train",
            ["model=mini", "data.train=A", "data.val=B", "output=O"],
        ),
        (["rank", "--judgements", "J"], "ranker", ["index=D", "judgements=J"]),
        (["learn", "I", "--events", "E"], "learn", ["index=I", "events=E"]),
        (["learn", "--events", "E"], "learn", ["events=E"]),
        (["recommend", "--events", "E"], "build_recommender", ["index=D", "events=E"]),
        (["complete", "--events", "E"], "completion", ["events=E"]),
        (["clip", "a dog", "-o", "c.mp4"], "clip", ["index=D", "query=a dog", "output=c.mp4"]),
    ],
)
def test_flags_and_words_become_arguments(arguments_of, typed, config_name, arguments):
    seen, given = arguments_of(*typed)
    assert seen == config_name
    assert sorted(given) == sorted(arguments)
    assert [each for each in given if each in typed] == [each for each in typed if each in given]


def test_word_that_looks_like_a_list_is_taken_as_written(arguments_of):
    _, given = arguments_of("index", "[2024]", "[a,b", "null")
    prepared = prepare_arguments(given, IndexConfig)
    assert "videos=['[2024]','[a,b','null']" in prepared
    assert as_item("""["x"]""") == """['["x"]']"""


def test_file_that_is_called_like_an_override_is_a_file(arguments_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("take=2.mp4").touch()
    assert "videos=take=2.mp4" in arguments_of("index", "take=2.mp4")[1]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_flag_is_an_option_of_its_configuration(name):
    command = cli.COMMANDS[name]
    flags = command_flags(command.config)
    assert len({flag.name for flag in flags}) == len(flags)
    for flag in flags:
        if flag.name == "experiment" or flag.name.startswith("sampling."):
            continue  # a file of options; parts that ways of sampling share
        assert find_option(command.config, flag.name).metadata["help"] in flag.help
    aliased = cli._ALIASES.get(name, {})
    assert set(aliased) <= {flag.name for flag in flags}


def test_default_index_is_among_the_users_data(monkeypatch):
    monkeypatch.delenv("REELSEEK_INDEX", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert cli.default_index().parts[-2:] == ("reelseek", "index")
    monkeypatch.setenv("REELSEEK_INDEX", "/elsewhere")
    assert cli.default_index() == Path("/elsewhere")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["search", "a dog", "--levle", "moment"], ["unknown option --levle", "--level"]),
        (["search", "a dog", "levle=moment"], ["unknown option levle", "level"]),
        (["serch", "a dog"], ["serch", "search"]),
        (["search", "a dog", "-k"], ["-k"]),
        (["search", "a dog", "-k", "0"], ["k=0", "at least 1"]),
        (["search", "a", "dog"], ["query", '"a dog"']),
        (["search"], ["query, image or video"]),
        (["search", "a dog"], ["index=/nowhere", "no such folder"]),
        (["index"], ["videos"]),
        (["status", "DIR"], ["'DIR'", "name=value"]),
        (["clip", "a dog"], ["output"]),
        (["clip", "--video", "v", "-o", "o"], ["video=v", "start and end"]),
    ],
)
def test_mistake_is_one_line(arguments, parts):
    assert_user_error(run_reelseek_here(*arguments, REELSEEK_INDEX="/nowhere"), *parts)


def test_help_groups_the_commands_and_the_options():
    commands = run_reelseek_here("--help", COLUMNS="100").stdout
    assert all(name in commands for name in cli.COMMANDS)
    options = run_reelseek_here("index", "--help", COLUMNS="100").stdout
    for part in ("--retry-failed", "Options of decoding", "--decoding.workers", "default: scenes"):
        assert part in options
    assert max(map(len, options.splitlines())) <= 100


# Processes.


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["search", "--help"]])
def test_help_and_version_import_no_heavy_library(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reelseek", *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "reelseek.cli" in imported
    heavy = {"torch", "faiss", "open_clip", "transformers", "av", "decord", "numpy", "psutil"}
    assert imported.isdisjoint(heavy)


def test_version_is_the_one_that_is_installed():
    assert reelseek("--version").stdout.startswith("reelseek ")


def test_shell_completes_commands_flags_and_values():
    def completed(words):
        number = str(len(words.split()) - (not words.endswith(" ")))
        done = reelseek(_REELSEEK_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=number)
        return done.stdout.split()

    assert completed("reelseek se") == ["search", "serve"]
    assert "--min-confidence" in completed("reelseek search --mi")
    assert completed("reelseek search --level mo") == ["moment"]
