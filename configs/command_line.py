"""The edge of every command line: arguments -> a checked object -> `main`; and a user's mistake ->
one line on stderr and exit code 2."""

import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, TypeVar

from reelseek.configs.composition import (
    compose,
    default_values,
    load_decoding_config,
    load_model_config,
    read_yaml,
    to_yaml,
)
from reelseek.configs.help import help_text
from reelseek.configs.options import Options, preset_names
from reelseek.text import strict_json
from reelseek.text.terminal import printable

# What programs take from here; all but `run` is for their `main`.
__all__ = [
    "load_decoding_config",
    "load_model_config",
    "one_line",
    "preset_names",
    "print_json",
    "printable",
    "program_version",
    "read_yaml",
    "run",
    "to_yaml",
]

OptionsT = TypeVar("OptionsT", bound=Options)

_OWN_PACKAGES = {"reelseek", "__main__"}

# Full, over the quota, too large a file, read-only, forbidden, failing: for the user to mend.
_OF_THE_DISK = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


def run(
    main: Callable[[OptionsT], None],
    schema: type[OptionsT],
    *,
    usage: str,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs `main` on the options that the arguments give, and ends the process where that failed.

    Exit codes: 0, or what `main` raises as SystemExit; 2 for a user's mistake; 130 for Ctrl-C; 141
    where the reader of the output went away. Set `REELSEEK_TRACEBACK=1` to see where a mistake was
    noticed.

    Args:
        schema: the class of the command's options.
        usage: printed by `--help`, above the options.
        arguments: `name=value` or `--name value`; default: those of this process.
    """
    _show_all_characters()
    _show_only_own_warnings()
    try:
        try:
            _run(main, schema, usage, sys.argv[1:] if arguments is None else arguments)
        finally:
            _flush_stdout()
    except ValueError as error:
        _end_with(error, one_line(error))
    except ImportError as error:
        if error.name is not None:  # Python's own; ours name an extra that is not installed
            raise
        _end_with(error, one_line(error))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        # What was written, not what was read. Only the write of a stream has no name.
        path = error.filename2 or error.filename or "standard output"
        _end_with(error, printable(f"{path}: {error.strerror}"))


def _run(
    main: Callable[[OptionsT], None], schema: type[OptionsT], usage: str, arguments: Sequence[str]
) -> None:
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(help_text(schema, usage, default_values(schema)))
        return
    if "--version" in arguments:
        print(f"reelseek {program_version()}")
        return
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ValueError("the current folder is gone; change to one that exists") from error
    main(compose(schema, arguments))


def _end_with(error: Exception, message: str) -> NoReturn:
    if os.environ.get("REELSEEK_TRACEBACK"):
        raise error
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    lines = (line.strip() for line in str(error).splitlines())
    return printable(" ".join(line for line in lines if line).rstrip(".")) or type(error).__name__


def program_version() -> str:
    """Returns the version that `--version` prints."""
    try:
        return version("reelseek")
    except PackageNotFoundError:
        return "of an unknown version, as it is not installed"


def print_json(value: Any) -> None:
    """Prints a value as one line of JSON on stdout."""
    print(strict_json.dumps(value))


def _flush_stdout() -> None:
    """Writes what is left, while its failure can still be said in one line.

    Raises:
        OSError: stdout is a file on a full disk, or its reader went away.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit tries again
        raise


class _OneLineFormatter(logging.Formatter):
    """Messages on one line each, whatever the names in them hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def _show_all_characters() -> None:
    """Lets the output show what its encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show_only_own_warnings() -> None:
    """Sends this project's warnings to stderr; those of libraries would hide the one line that
    says what was wrong."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLineFormatter("%(levelname)s: %(message)s"))
    handler.addFilter(lambda record: record.name.partition(".")[0] in _OWN_PACKAGES)
    logging.basicConfig(handlers=[handler], force=True)
