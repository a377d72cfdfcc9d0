"""The project's programs as a user starts them, and what a user's mistake must look like."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from reelseek import cli
from reelseek.configs import (
    command_line,
    completion_schema,
    experiment_schema,
    feed_schema,
    learning_schema,
    recommend_schema,
    schema,
    sequential_schema,
    train_schema,
)
from reelseek.configs.options import Options

PROJECT = Path(__file__).resolve().parents[1]

# The options of each command line, by the name of its YAML.
SCHEMAS: dict[str, type[Options]] = {
    node.command: node
    for module in (
        *(schema, train_schema, recommend_schema, sequential_schema),
        *(feed_schema, completion_schema, learning_schema, experiment_schema),
    )
    for node in vars(module).values()
    if isinstance(node, type) and issubclass(node, Options) and node.command
}


@dataclass(frozen=True)
class Done:
    """What a run has left: as of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def metrics(self) -> dict[str, Any]:
        assert self.returncode == 0, self.stderr
        return json.loads(self.stdout.splitlines()[-1])


def run_in_this_process(program: ModuleType, name: str, *arguments: object) -> Done:
    """The same as `run_program`, without ten seconds of loading libraries.

    Args:
        name: of the program's configuration.
    """
    return _run_here(
        lambda: command_line.run(program.main, SCHEMAS[name], usage=program.USAGE), name, arguments
    )


def run_reelseek_here(*arguments: object, **environment: str) -> Done:
    """The same as `python -m reelseek ARGUMENTS`."""
    with mock.patch.dict(os.environ, environment):
        return _run_here(cli.main, "reelseek", arguments)


def _run_here(main: Callable[[], None], name: str, arguments: Sequence[object]) -> Done:
    stdout, stderr = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    code = 0
    try:
        with (
            mock.patch.object(sys, "argv", [name, *map(str, arguments)]),
            mock.patch.object(os, "nice", lambda niceness: niceness),
            mock.patch.dict(os.environ),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            os.environ.pop("REELSEEK_TRACEBACK", None)
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Done(code, stdout.getvalue(), stderr.getvalue())


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `python ARGUMENTS` in the project's folder."""
    if arguments[:2] == ("-m", "indexing"):
        arguments += ("niceness=0",)  # or the tests beside it would take all of the processor
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env={key: value for key, value in os.environ.items() if key != "REELSEEK_TRACEBACK"},
    )


def assert_user_error(process: subprocess.CompletedProcess[str] | Done, *parts: str) -> None:
    """Nothing on stdout, and on stderr one line that names these parts."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    (error,) = [line for line in lines if not line.startswith("WARNING")]
    assert error.startswith("error: ")
    for part in parts:
        assert part in error
