"""The fields of a configuration's schema -> flags of a command, and flags given -> `name=value`.

A flag carries its text on as it was typed: `configs.command_line` checks names, types and ranges,
so that `reelseek search --k 0` and `python search.py k=0` say the same.
"""

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, NamedTuple

import typer

from reelseek.configs.options import (
    Options,
    describe,
    option_fields,
    preset_names,
    without_none,
)

WORDS = "words"  # the parameter that takes what is no flag
_METAVARS: dict[Any, str] = {bool: "", int: "N", float: "X", str: "TEXT", list[str]: "TEXT"}
_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w.]*=")


class Flag(NamedTuple):
    """One option of a command line.

    Attributes:
        name: with dots for what is inside, such as `decoding.workers`.
        metavar: how `--help` calls its value; empty for a switch.
        choices: that shell completion offers.
        group: under which `--help` lists it; empty for the command's own.
    """

    name: str
    help: str
    metavar: str = ""
    is_switch: bool = False
    is_list: bool = False
    choices: tuple[str, ...] = ()
    group: str = ""


def command_flags(node: type[Options]) -> list[Flag]:
    """The flags of a command line, in the order of its options."""
    flags = list(_flags(node))
    if node.recipes:
        recipes = tuple(preset_names(node.recipes))
        flags.append(Flag(node.recipes, "a whole recipe", metavar="NAME", choices=recipes))
    return flags


def _flags(node: type, prefix: str = "") -> Iterator[Flag]:
    kinds: list[Any] = node.__subclasses__()
    for field in option_fields(node):
        name = prefix + field.name
        section = without_none(field.type)[0]
        group = field.metadata["group"]
        if group:
            choices = tuple(preset_names(group))
            yield Flag(name, field.metadata["help"], metavar="NAME", choices=choices)
        if is_dataclass(section) and isinstance(section, type):
            yield from _flags(section, f"{name}.")
        elif not group and typing.get_origin(section) is not dict:  # its keys are the user's own
            flag = _flag(field, section, name, prefix.rstrip("."))
            having = [kind for kind in kinds if field.name in {each.name for each in fields(kind)}]
            if kinds and len(having) < len(kinds):
                names = ", ".join(str(kind.kind) for kind in having)
                flag = flag._replace(help=f"{names}: {flag.help}")
            yield flag


def _flag(field: Field, one: Any, name: str, group: str) -> Flag:
    is_enum = isinstance(one, type) and issubclass(one, Enum)
    return Flag(
        name,
        field.metadata["help"] if is_enum else describe(field),
        metavar="PATH" if field.metadata["is_path"] else _METAVARS.get(one, "NAME"),
        is_switch=one is bool,
        is_list=one == list[str],
        choices=tuple(one.__members__) if is_enum else (),
        group=group,
    )


def make_command(
    run: Callable[[list[str], list[str]], None],
    flags: Sequence[Flag],
    *,
    aliases: dict[str, tuple[str, ...]],
    defaults: dict[str, str],
    words: tuple[str, str],
) -> Callable[..., None]:
    """A function that Typer reads the flags of, and calls with the ones that were given.

    Args:
        run: called with the words that are no flags, and with the flags as `name=value`.
        aliases: further names of a flag, such as `-k`, by its name.
        defaults: shown in the help, by name.
        words: how the help calls the words, and explains them.
    """
    metavar, text = words
    parameters = [_parameter(WORDS, list[str] | None, typer.Argument(metavar=metavar, help=text))]
    for flag in flags:
        option = _option(flag, aliases.get(flag.name, ()), defaults.get(flag.name, ""))
        parameters.append(_parameter(flag.name.replace(".", "__"), *option))

    def command(**given: Any) -> None:
        taken = given.pop(WORDS) or []
        run(taken, [each for flag in flags for each in _as_overrides(flag, given)])

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _parameter(name: str, kind: Any, declaration: Any) -> inspect.Parameter:
    annotation = Annotated[kind, declaration]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _option(flag: Flag, aliases: tuple[str, ...], default: str) -> tuple[Any, Any]:
    """The type of a flag's value, and its declaration to Typer."""
    dashed = flag.name.replace("_", "-")
    long = f"--{dashed}/--no-{dashed}" if flag.is_switch else f"--{dashed}"
    kind: Any = bool if flag.is_switch else list[str] if flag.is_list else str
    text = flag.help if not flag.choices else f"{flag.help} ({', '.join(flag.choices)})"
    text = f"{text} [default: {default}]" if default else text
    declaration = typer.Option(
        *aliases,
        long,
        help=text.replace("[", r"\["),  # or Rich takes what stands in brackets for its markup
        metavar=flag.metavar or None,
        show_default=False,
        rich_help_panel=f"Options of {flag.group}" if flag.group else None,
        autocompletion=(lambda: list(flag.choices)) if flag.choices else None,
    )
    return kind | None, declaration


def _as_overrides(flag: Flag, given: dict[str, Any]) -> list[str]:
    value = given[flag.name.replace(".", "__")]
    if value is None:
        return []
    if flag.is_list:
        return [f"{flag.name}={as_item(each)}" for each in value]
    return [f"{flag.name}={str(value).lower() if flag.is_switch else value}"]


def is_override(word: str) -> bool:
    """Whether a word is `name=value`, rather than a path or a sentence."""
    return _OVERRIDE.match(word) is not None


def as_item(word: str) -> str:
    """A list's item that is taken as it is written, though it looks like a list itself."""
    if word not in ("", "null") and not (word.startswith("[") and word.endswith("]")):
        return word
    quote = "'" if '"' in word else '"'
    return f"[{quote}{word}{quote}]"
