"""The command lines' common edge: `name=value` arguments -> Hydra -> a checked dataclass; and a
user's mistake -> one line on stderr and exit code 2.

Hydra has a grammar of its own for values, in which a comma or a bracket means something. A query
or a path is data: values of text options are quoted here, so that they arrive as typed.
"""

import errno
import io
import logging
import os
import sys
import typing
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from reelseek.configs import schema
from reelseek.configs.arguments import prepare_arguments
from reelseek.configs.options import GROUPS, RECIPES, SCHEMAS, option_rows, preset_names
from reelseek.configs.paths import expand_paths
from reelseek.text import strict_json
from reelseek.text.terminal import printable

_OWN_PACKAGES = {"reelseek", "__main__"}

# Full, over the quota, too large a file, read-only, forbidden, failing: for the user to mend.
_OF_THE_DISK = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


def run(main: Callable[[DictConfig], None], *, config_name: str, usage: str) -> None:
    """Composes the configuration from this process's arguments, runs `main` on it, and ends the
    process where that failed.

    Exit codes: 0, or what `main` raises as SystemExit; 2 for a user's mistake; 130 for Ctrl-C; 141
    where the reader of the output went away. Set `REELSEEK_TRACEBACK=1` to see where a mistake was
    noticed.
    """
    from hydra.errors import HydraException

    _show_all_characters()
    _show_only_own_warnings()
    try:
        try:
            _run(main, config_name, usage)
        finally:
            _flush_stdout()
    except (ValueError, HydraException, OmegaConfBaseException) as error:
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


def _run(main: Callable[[DictConfig], None], config_name: str, usage: str) -> None:
    arguments = sys.argv[1:]
    register_schemas()
    if not {"-h", "--help"}.isdisjoint(arguments):
        print(help_text(config_name, usage))
        return
    if "--version" in arguments:
        print(f"reelseek {_version()}")
        return
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ValueError("the current folder is gone; change to one that exists") from error
    sys.argv[1:] = prepare_arguments(arguments, config_name=config_name)

    import hydra

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us, instead of Hydra's own printing
    failures: list[Exception] = []

    def task(cfg: DictConfig) -> None:
        try:
            expand_paths(cfg)
            main(cfg)
        except Exception as error:  # Hydra would print a line of its own before passing it on
            failures.append(error)

    hydra.main(version_base="1.3", config_path="pkg://reelseek.configs", config_name=config_name)(
        task
    )()
    if failures:
        raise failures[0]


def _end_with(error: Exception, message: str) -> NoReturn:
    if os.environ.get("REELSEEK_TRACEBACK"):
        raise error
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _version() -> str:
    try:
        return version("reelseek")
    except PackageNotFoundError:
        return "of an unknown version, as it is not installed"


def print_json(value: typing.Any) -> None:
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


def register_schemas() -> None:
    """Tells Hydra the types; each YAML names its own first in its defaults."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, node in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=node)
    store.store(group="model", name="schema", node=schema.ModelConfig)
    store.store(group="decoding", name="schema", node=schema.DecodingConfig)
    for kind, node in schema.SAMPLING_KINDS.items():
        store.store(group="sampling", name=f"{kind}_schema", node=node)


def load_model_config(name: str) -> schema.ModelConfig:
    """A model by preset, open_clip name or folder, as `model=NAME` means it on a command line."""
    if name not in preset_names("model"):
        return schema.ModelConfig(name=name)
    path = files("reelseek.configs").joinpath("model").joinpath(f"{name}.yaml")
    values = typing.cast(DictConfig, OmegaConf.load(str(path)))
    fields_only = OmegaConf.masked_copy(values, [str(key) for key in values if key != "defaults"])
    merged = OmegaConf.merge(OmegaConf.structured(schema.ModelConfig), fields_only)
    return typing.cast(schema.ModelConfig, OmegaConf.to_object(merged))


def load_decoding_config() -> schema.DecodingConfig:
    """The decoding options' own values."""
    path = files("reelseek.configs").joinpath("decoding").joinpath("default.yaml")
    values = typing.cast(DictConfig, OmegaConf.load(str(path)))
    fields_only = OmegaConf.masked_copy(values, [str(key) for key in values if key != "defaults"])
    merged = OmegaConf.merge(OmegaConf.structured(schema.DecodingConfig), fields_only)
    return typing.cast(schema.DecodingConfig, OmegaConf.to_object(merged))


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; of Hydra's and OmegaConf's, whose further lines are
    for their own users, the first, followed by that of the error behind it."""
    from hydra.errors import HydraException

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        lines = lines[:1]
    if isinstance(error, MissingMandatoryValue):
        name = lines[0].rpartition(" ")[2].removesuffix(".folder")
        return f"{name} is missing: give it as name=value; see --help"
    message = printable(" ".join(lines).rstrip(".")) or type(error).__name__
    if isinstance(error.__cause__, OmegaConfBaseException):
        message = f"{message}: {one_line(error.__cause__)}"
    return message


def help_text(config_name: str, usage: str) -> str:
    """The options with their defaults and meanings, from the schema and the YAML."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("reelseek.configs", version_base="1.3"):
        values = compose(config_name)
    lines = [usage, "", "options (name=value, or --name value):"]
    for name, text, default in option_rows(SCHEMAS[config_name], values):
        lines.append(f"  {name:<28}{text}{default}")
    groups = [group for group in GROUPS if group in values]
    for group in [*groups, *([RECIPES] if config_name == "train" else [])]:
        lines.append(f"{group}s: {', '.join(preset_names(group))}")
    lines.append("Errors are one line; REELSEEK_TRACEBACK=1 shows where they arose.")
    return "\n".join(lines)
