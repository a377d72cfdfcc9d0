"""The command lines' common edge: `name=value` arguments -> Hydra -> a checked dataclass; and a
user's mistake -> one line on stderr and exit code 2.

Hydra has a grammar of its own for values, in which a comma or a bracket means something. A query
or a path is data: values of text options are quoted here, so that they arrive as typed.
"""

import difflib
import errno
import io
import logging
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from configs import schema, train_schema
from configs.paths import escape_interpolation, expand_paths
from text import strict_json
from text.terminal import printable

_OWN_PACKAGES = {
    "configs",
    "indexing",
    "ranking",
    "text",
    "training",
    "vision",
    "search",
    "train",
    "__main__",
}

# Full, over the quota, too large a file, read-only, forbidden, failing: for the user to mend.
_OF_THE_DISK = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}

_GROUPS = {"model": schema.ModelConfig, "sampling": None}
# A whole run's options in one file; others on the command line go before it.
_RECIPES = "experiment"
_SCHEMAS = {
    "index": schema.IndexConfig,
    "status": schema.StatusConfig,
    "verify": schema.VerifyConfig,
    "repair": schema.RepairConfig,
    "migrate": schema.MigrateConfig,
    "delete": schema.DeleteConfig,
    "merge": schema.MergeConfig,
    "enrich": schema.EnrichConfig,
    "export": schema.ExportConfig,
    "ranker": schema.RankerConfig,
    "interaction": schema.InteractionConfig,
    "search": schema.SearchConfig,
    "train": train_schema.TrainConfig,
}


def run(main: Callable[[DictConfig], None], *, config_name: str, usage: str) -> None:
    """Composes the configuration from this process's arguments, runs `main` on it, and ends the
    process where that failed.

    Exit codes: 0, or what `main` raises as SystemExit; 2 for a user's mistake; 130 for Ctrl-C.
    Set `REELSEEK_TRACEBACK=1` to see where a mistake was noticed.
    """
    import hydra
    from hydra.errors import HydraException

    _show_all_characters()
    _show_only_own_warnings()
    register_schemas()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us, instead of Hydra's own printing
    failures: list[Exception] = []

    def task(cfg: DictConfig) -> None:
        try:
            expand_paths(cfg)
            main(cfg)
        except Exception as error:  # Hydra would print a line of its own before passing it on
            failures.append(error)

    try:
        if not {"-h", "--help"}.isdisjoint(sys.argv[1:]):
            print(help_text(config_name, usage))
            return
        sys.argv[1:] = prepare_arguments(sys.argv[1:], config_name=config_name)
        hydra.main(version_base="1.3", config_path="pkg://configs", config_name=config_name)(task)()
        if failures:
            raise failures[0]
        _flush_stdout()
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("REELSEEK_TRACEBACK"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in _OF_THE_DISK or os.environ.get("REELSEEK_TRACEBACK"):
            raise
        path = error.filename2 or error.filename  # what was written, not what was read
        where = f"{path}: " if path else ""
        print(f"error: {printable(f'{where}{error.strerror}')}", file=sys.stderr)
        sys.exit(2)


def print_json(value: typing.Any) -> None:
    """Prints a value as one line of JSON on stdout."""
    print(strict_json.dumps(value))


def _flush_stdout() -> None:
    """Writes what is left, while its failure can still be said in one line.

    Raises:
        OSError: stdout is a file on a full disk.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit tries again
        error.filename = "standard output"
        raise


class _OneLineFormatter(logging.Formatter):
    """Messages on one line each, whatever the names in them hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def _show_all_characters() -> None:
    """Lets stdout show what its encoding lacks as escapes, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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
    for name, node in _SCHEMAS.items():
        store.store(name=f"{name}_schema", node=node)
    store.store(group="model", name="schema", node=schema.ModelConfig)
    store.store(group="decoding", name="schema", node=schema.DecodingConfig)
    for kind, node in schema.SAMPLING_KINDS.items():
        store.store(group="sampling", name=f"{kind}_schema", node=node)


def preset_names(group: str) -> list[str]:
    """The YAML files of a group, such as the models in `configs/model/`."""
    folder = files("configs").joinpath(group)
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml") and entry.name != "custom.yaml"
    )


def load_model_config(name: str) -> schema.ModelConfig:
    """A model by preset, open_clip name or folder, as `model=NAME` means it on a command line."""
    if name not in preset_names("model"):
        return schema.ModelConfig(name=name)
    path = files("configs").joinpath("model").joinpath(f"{name}.yaml")
    values = typing.cast(DictConfig, OmegaConf.load(str(path)))
    fields_only = OmegaConf.masked_copy(values, [str(key) for key in values if key != "defaults"])
    merged = OmegaConf.merge(OmegaConf.structured(schema.ModelConfig), fields_only)
    return typing.cast(schema.ModelConfig, OmegaConf.to_object(merged))


def load_decoding_config() -> schema.DecodingConfig:
    """The decoding options' own values."""
    path = files("configs").joinpath("decoding").joinpath("default.yaml")
    values = typing.cast(DictConfig, OmegaConf.load(str(path)))
    fields_only = OmegaConf.masked_copy(values, [str(key) for key in values if key != "defaults"])
    merged = OmegaConf.merge(OmegaConf.structured(schema.DecodingConfig), fields_only)
    return typing.cast(schema.DecodingConfig, OmegaConf.to_object(merged))


def prepare_arguments(arguments: Sequence[str], *, config_name: str) -> list[str]:
    """Checks the names of the options and quotes the values of those that are text.

    Raises:
        ValueError: an argument that is not `name=value`, or an unknown name (near ones are given).
    """
    node = _SCHEMAS[config_name]
    if config_name == "index":
        arguments = [re.sub("^index=", "index.folder=", argument) for argument in arguments]
    names = {argument.partition("=")[0] for argument in arguments}
    prepared = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-") or name.startswith("hydra"):
            prepared.append(argument)
        elif not equals:
            raise ValueError(f"argument {argument!r} is not of the form name=value; see --help")
        elif name == "model" and value not in preset_names("model"):
            if not value:
                raise ValueError("model is empty: name a preset, an open_clip model or a folder")
            prepared += ["model=custom", f"model.name={quote(value)}"]
        elif name in ("sampling", _RECIPES) and value not in preset_names(name):
            known = ", ".join(preset_names(name))
            raise ValueError(f"{name}={value}: must be one of {known}")
        elif name == _RECIPES and config_name == "train":
            prepared.append(argument)
        else:
            field_type = _option_type(node, name)
            if name.startswith("model.") and "model" not in names and config_name != "train":
                raise ValueError(f"{name} is given without a model: add model=NAME")
            is_text = field_type is str or (_is_optional_text(field_type) and value != "null")
            if typing.get_origin(field_type) is dict and not name.startswith("+"):
                argument = f"++{argument}"  # a key of the user's own
            if field_type == list[str] and not value.startswith("["):
                argument = f"{name}=[]" if value == "null" else f"{name}=[{quote(value)}]"
            prepared.append(f"{name}={quote(value)}" if is_text else argument)
    return prepared


def quote(value: str) -> str:
    """A Hydra override value that means exactly this text.

    Raises:
        ValueError: the text is `???`, which OmegaConf knows no way to write.
    """
    if value == "???":
        raise ValueError("??? on its own means that a value is missing; write a path as ./???")
    escaped = escape_interpolation(value)
    # Hydra: inside single quotes, backslashes count as escapes only before a quote.
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", escaped)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


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

    with initialize_config_module("configs", version_base="1.3"):
        values = compose(config_name)
    lines = [usage, "", "options (name=value):"]
    for name, text, default in _options(_SCHEMAS[config_name], values):
        lines.append(f"  {name:<28}{text}{default}")
    groups = [group for group in _GROUPS if group in values]
    for group in [*groups, *([_RECIPES] if config_name == "train" else [])]:
        lines.append(f"{group}s: {', '.join(preset_names(group))}")
    lines.append("Errors are one line; REELSEEK_TRACEBACK=1 shows where they arose.")
    return "\n".join(lines)


def _options(node: type, values: typing.Any, prefix: str = "") -> list[tuple[str, str, str]]:
    rows = []
    for field in fields(node):
        text = field.metadata.get("help")
        if text is None:
            continue
        missing = values is None or OmegaConf.is_missing(values, field.name)
        value = None if missing else values[field.name]
        nested = _nested_schema(field.type, value)
        if field.name in _GROUPS:
            rows.append((field.name, text, ""))
        if nested is not None and value is not None:
            rows += _options(nested, value, f"{prefix}{field.name}.")
        elif field.name not in _GROUPS:
            shown = value.name if isinstance(value, schema.Enum) else value
            shown = str(shown).lower() if isinstance(shown, bool) else shown
            rows.append((prefix + field.name, text, "" if value is None else f" [{shown}]"))
    return rows


def _nested_schema(field_type: typing.Any, value: typing.Any) -> type | None:
    if isinstance(value, DictConfig) and is_dataclass(OmegaConf.get_type(value)):
        return OmegaConf.get_type(value)
    return field_type if is_dataclass(field_type) and isinstance(field_type, type) else None


def _option_type(node: type, name: str, prefix: str = "") -> typing.Any:
    """The declared type of an option; None for those of a group whose choice is not known yet."""
    head, _, rest = name.lstrip("+~").partition(".")
    types_by_name = {field.name: field.type for field in fields(node)}
    _require_known(prefix + head, [prefix + known for known in types_by_name])
    inner = _GROUPS.get(head, types_by_name[head])
    if rest and is_dataclass(inner) and isinstance(inner, type):
        return _option_type(inner, rest, f"{prefix}{head}.")
    if rest and head == "sampling":
        kinds = schema.SAMPLING_KINDS.values()
        known = {f"sampling.{field.name}" for kind in kinds for field in fields(kind)}
        _require_known(f"sampling.{rest}", sorted(known - {"sampling.kind"}))
    elif rest and typing.get_origin(inner) is not dict:
        raise ValueError(f"unknown option {prefix}{name}: {prefix}{head} has no parts")
    return None if head in _GROUPS else types_by_name[head]


def _require_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"near names: {', '.join(near)}" if near else f"options: {', '.join(known)}"
        raise ValueError(f"unknown option {name}; {hint}")


def _is_optional_text(field_type: typing.Any) -> bool:
    is_union = typing.get_origin(field_type) in (types.UnionType, typing.Union)
    return is_union and set(typing.get_args(field_type)) == {str, type(None)}
