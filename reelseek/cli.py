"""`reelseek COMMAND ...`: the command line.

Each command takes flags, made from its configuration's schema, and `name=value` beside them. Both
are handed on as the arguments of `configs.command_line.run`, as if `python -m indexing` and its
like had been called with them; what a command runs is imported only when it is called.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from reelseek.configs import (
    command_line,
    completion_schema,
    feed_schema,
    learning_schema,
    schema,
    train_schema,
)
from reelseek.configs.composition import default_values
from reelseek.configs.help import option_rows
from reelseek.configs.options import Options, find_option
from reelseek.flags import as_item, command_flags, is_override, make_command
from reelseek.text.terminal import printable

_HELP = """Finds the moment in the video: `reelseek index ~/Videos`, then `reelseek search "a dog
catches a frisbee"`."""
_EPILOG = """The index is a folder: --index, or $REELSEEK_INDEX, or one among the user's data. Any
option may also be given as NAME=VALUE. REELSEEK_TRACEBACK=1 shows where an error arose."""


Calls = list[tuple[str, list[str], list[str]]]  # a command, its words, its flags


class Command(NamedTuple):
    """One command.

    Attributes:
        module: that holds its `main` and `USAGE`.
        config: the class of its options.
        help: for people, the first line in the list of commands.
        words: how its words are called, and what they are; the option that they are given as.
        group: under which the commands are listed.
    """

    module: str
    config: type[Options]
    help: str
    words: tuple[str, str] = ("NAME=VALUE", "any option, as NAME=VALUE")
    option: str = ""
    group: str = "An index"


_SEARCH, _LEARN = "Search", "Learn"
COMMANDS = {
    "search": Command(
        "ranking.command",
        schema.SearchConfig,
        "Finds the videos, or the seconds in them, that a sentence, an image or a video describes.",
        ("QUERY", "what the video should show, in quotes"),
        "query",
        _SEARCH,
    ),
    "serve": Command(
        "serving.__main__",
        schema.ServeConfig,
        "Opens an index in the browser, and over HTTP; given videos, indexes and watches them.",
        ("PATH", "the folder of an index, or folders of videos"),
        "videos",
        _SEARCH,
    ),
    "clip": Command(
        "ranking.clip_command",
        schema.ClipConfig,
        "Writes the seconds of the best hit, or of --video, as a video file of their own.",
        ("QUERY", "what the moment should show, in quotes"),
        "query",
        _SEARCH,
    ),
    "index": Command(
        "indexing.__main__",
        schema.IndexConfig,
        "Makes a searchable index of videos, or brings it up to date.\n\nOnly what is new or "
        "changed is decoded. The last line on stdout is a JSON object; the outcome of each video "
        "is in report.jsonl in the index's folder.",
        (
            "PATH",
            "folders, files or globs of videos, .txt lists of paths, .jsonl lists with captions",
        ),
        "videos",
    ),
    "status": Command(
        "indexing.tools.status",
        schema.StatusConfig,
        "Says what an index holds and how well it searches.",
    ),
    "verify": Command(
        "indexing.tools.verify",
        schema.VerifyConfig,
        "Checks an index against its checksums and its videos.",
    ),
    "repair": Command(
        "indexing.tools.repair",
        schema.RepairConfig,
        "Mends a damaged index, without decoding where it can.",
    ),
    "delete": Command(
        "indexing.tools.delete",
        schema.DeleteConfig,
        "Removes videos from an index; their files are not touched.",
        ("KEY", "keys or ids of the videos, as a search prints them"),
        "keys",
    ),
    "merge": Command(
        "indexing.tools.merge",
        schema.MergeConfig,
        "Adds other indexes to an index.",
        ("DIR", "the folders of the indexes to add"),
        "sources",
    ),
    "shard": Command(
        "indexing.tools.shard",
        schema.ShardConfig,
        "Divides an index into shards, or joins them, without decoding.",
    ),
    "export": Command(
        "indexing.tools.export",
        schema.ExportConfig,
        "Writes an index as Parquet, for other programs.",
    ),
    "publish": Command(
        "indexing.tools.publish",
        schema.PublishConfig,
        "Publishes an index in object storage, from which searches open it.",
        ("URL", "where to publish it, such as s3://BUCKET/NAME"),
        "to",
    ),
    "enrich": Command(
        "indexing.enrich.__main__",
        schema.EnrichConfig,
        "Reads what is written in indexed videos, and writes down what is said in them.",
    ),
    "train": Command(
        "training.command",
        train_schema.TrainConfig,
        "Trains a model on captioned videos, or evaluates one.\n\n--model DIR then names the "
        "trained model everywhere. The last line on stdout is a JSON object of metrics.",
        group=_LEARN,
    ),
    "rank": Command(
        "ranking.__main__",
        schema.RankerConfig,
        "Trains a ranker on judged or clicked videos; a search with --ranker DIR uses it.",
        group=_LEARN,
    ),
    "learn": Command(
        "recommendation.learn",
        learning_schema.LearnConfig,
        "Learns from the events of a service while they come; searches and feeds of its users "
        "follow.\n\nKilled at any moment, it goes on where it was. `serve --learn` does the same "
        "beside the service.",
        ("INDEX", "the folder of the index, for authors, tags and durations"),
        "index",
        _LEARN,
    ),
    "recommend": Command(
        "recommendation.__main__",
        feed_schema.BuildRecommenderConfig,
        "Learns related videos and the feed from all events of a service, which goes over to "
        "them.\n\nRun it each night.",
        ("INDEX", "the folder of the index"),
        "index",
        _LEARN,
    ),
    "complete": Command(
        "recommendation.completion.__main__",
        completion_schema.CompletionConfig,
        "Learns how to complete queries from what users of a service asked.\n\nRun it each night.",
        group=_LEARN,
    ),
}
# Shorter names of flags, by command and option.
_ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "index": {"index.folder": ("--index",)},
    "search": {"k": ("-k",), "output": ("-o",)},
    "clip": {"output": ("-o",)},
    "export": {"output": ("-o",)},
    "train": {"data.train": ("--train",), "data.val": ("--val",), "output": ("-o",)},
    "rank": {"output": ("-o",)},
}


# They say afterwards which index they have changed, where none was named.
_WRITES = {"index", "delete", "merge", "enrich", "repair"}
# They do with none, too.
_WITHOUT_INDEX = (learning_schema.LearnConfig, completion_schema.CompletionConfig)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process as `configs.command_line.run` does: 2 for a user's
    mistake, which is one line on stderr.

    Args:
        arguments: default: those of this process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    calls: Calls = []
    try:
        code = _program(given, calls)(given, prog_name="reelseek", standalone_mode=False)
        # Run here: Typer has ways of its own with some errors that are raised inside it.
        for name, words, flags in calls:
            _run(name, words, flags)
    except (typer.TyperException, ValueError) as error:
        if os.environ.get("REELSEEK_TRACEBACK"):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def default_index() -> Path:
    """The index that is used where none is named: `$REELSEEK_INDEX`, or a folder where the system
    keeps a user's data."""
    chosen = os.environ.get("REELSEEK_INDEX")
    if chosen:
        return Path(chosen)
    from platformdirs import user_data_path

    return user_data_path("reelseek") / "index"


def _program(given: Sequence[str], calls: Calls) -> Callable[..., object]:
    """The program, with the flags of the commands that the arguments name.

    Args:
        calls: takes the command that is called, with its words, and its flags as `name=value`.
    """
    app = typer.Typer(help=_HELP, epilog=_EPILOG)

    @app.callback(invoke_without_command=True)
    def program(
        context: typer.Context,
        show_version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.")
        ] = False,
    ) -> None:
        if show_version:
            print(f"reelseek {command_line.program_version()}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            context.get_help()
            raise typer.Exit(2)

    completes = "_REELSEEK_COMPLETE" in os.environ
    for name, command in COMMANDS.items():
        is_named = completes or name in given
        function = make_command(
            partial(_note_call, calls, name),
            command_flags(command.config) if is_named else [],
            aliases=_ALIASES.get(name, {}),
            defaults=_defaults(command.config) if is_named and "--help" in given else {},
            words=command.words,
        )
        app.command(name, help=command.help, rich_help_panel=command.group)(function)
    return typer.main.get_command(app)


def _defaults(config: type[Options]) -> dict[str, str]:
    """The values of the options that are not given, by name, for `--help`."""
    rows = option_rows(config, default_values(config))
    return {name: default for name, _, default in rows if default}


def _note_call(calls: Calls, name: str, words: list[str], flags: list[str]) -> None:
    calls.append((name, words, flags))


def _run(name: str, words: list[str], flags: list[str]) -> None:
    """Hands a command's words and flags on, in this process."""
    command = COMMANDS[name]
    arguments = [*_as_arguments(command, words), *flags]
    arguments += [word for word in words if _is_override(word)]  # these prevail
    index = _missing_index(command.config, arguments)
    if index:
        arguments.insert(0, f"index={index}")
    command_line.run(
        lambda config: import_module(f"reelseek.{command.module}").main(config),
        command.config,
        usage="",
        arguments=arguments,
    )
    if index and name in _WRITES:
        print(f"index: {printable(index)}", file=sys.stderr)


def _as_arguments(command: Command, words: Sequence[str]) -> list[str]:
    """The words that are no `name=value`, as the option that they stand for."""
    named = [word for word in words if not _is_override(word)]
    if not named:
        return []
    if not command.option:
        raise ValueError(f"argument {named[0]!r} is not of the form name=value; see --help")
    if find_option(command.config, command.option).type == list[str]:
        return [f"{command.option}={as_item(word)}" for word in named]
    if len(named) > 1:
        raise ValueError(
            f"got {len(named)} words for {command.option}; put them in quotes: "
            f'"{printable(" ".join(named))}"'
        )
    return [f"{command.option}={named[0]}"]


def _is_override(word: str) -> bool:
    """Whether a word is `name=value`, and no file that is called so."""
    return is_override(word) and not os.path.lexists(word)


def _missing_index(config: type[Options], arguments: Sequence[str]) -> str:
    """The default index, where a command needs one and none is given."""
    names = {argument.partition("=")[0] for argument in arguments}
    has_index = any(field.name == "index" for field in fields(config))
    if config is schema.ServeConfig and "videos" in names:  # they have an index of their own
        return ""
    if config in _WITHOUT_INDEX and not default_index().is_dir():
        return ""
    return str(default_index()) if has_index and names.isdisjoint({"index", "index.folder"}) else ""


def _one_line(error: Exception) -> str:
    """What was wrong, with near names of an unknown flag."""
    near: Sequence[str] | None = getattr(error, "possibilities", None)
    if near:
        name = printable(str(getattr(error, "option_name", "")))
        return f"unknown option {name}; near names: {', '.join(near)}"
    message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    return printable(" ".join(message.split())).rstrip(".")
