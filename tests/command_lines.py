"""The project's programs as a user starts them, and what a user's mistake must look like."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


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


def assert_user_error(process: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Nothing on stdout, and on stderr one line that names these parts."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    (error,) = [line for line in lines if not line.startswith("WARNING")]
    assert error.startswith("error: ")
    for part in parts:
        assert part in error
