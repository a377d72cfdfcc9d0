"""Declares options: each one's help, default and allowed values stand in one place.

`Options` enforces what is allowed when a configuration becomes an object; `--help` prints it.
"""

import difflib
import types
import typing
from collections.abc import Container, Iterator, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from importlib.resources import files
from math import inf
from typing import Any

MISSING: Any = "???"  # OmegaConf's mark of a value that the YAML or the user must give

# Options of 0.1 that have other names now.
_RENAMED = {
    "data.max_failed": "data.max_failed_fraction",
    "decoding.videos_each": "decoding.max_videos_per_worker",
    "optimizer.keep_start": "optimizer.wise_ft_alpha",
    "reranker": "token_matching",
    "sampling.frames_a_shot": "sampling.frames_per_shot",
    "sampling.skip_similar": "sampling.dedup_threshold",
    "test_share": "test_fraction",
}


@dataclass(frozen=True)
class Range:
    """Numbers from `minimum`, or beyond `above`, up to `maximum`, or short of `below`; no NaN.

    With `or_zero`, 0 is allowed too and stands for something else.
    """

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    or_zero: bool = False

    def __contains__(self, value: Any) -> bool:
        if self.or_zero and value == 0:
            return True
        return (
            (self.minimum is None or value >= self.minimum)
            and (self.maximum is None or value <= self.maximum)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        lowest = "0 or more" if self.minimum == 0 else f"at least {self.minimum}"
        if self.above is not None:
            lowest = f"more than {self.above}"
        if self.or_zero:
            lowest = f"0, or {lowest}"
        if self.below == inf:
            return f"{lowest}, finite"
        if self.below is not None:
            return f"{self.minimum} to less than {self.below}"
        if self.maximum is not None and self.minimum is not None:
            return f"{self.minimum} to {self.maximum}"
        return lowest if self.maximum is None else f"{lowest}, at most {self.maximum}"


class OneOf(tuple[str, ...]):
    """A few words."""

    def __str__(self) -> str:
        return f"one of {', '.join(self)}"


def option(
    text: str,
    allowed: Container[Any] | None = None,
    *,
    default: Any = MISSING,
    group: str = "",
    stands_for: str = "",
    is_path: bool = False,
    takes_urls: Sequence[str] | bool = False,
    is_words: bool = False,
) -> Any:
    """A field with its line of help; without a default, the YAML gives the value.

    Args:
        allowed: the values it may have, or those in it where it is a list or a dictionary; as text
            it completes "must be ...".
        group: the folder of YAML files that it chooses from by name.
        stands_for: the part that `name=value` sets.
        is_path: whether it is a path or a list of paths, in which `~` and `$HOME` are expanded.
        takes_urls: whether it may be a URL instead of a path; or the schemes that it may have.
        is_words: whether `null` is a word like any other, on the command line.
    """
    metadata = {
        **{"help": text, "allowed": allowed, "group": group, "stands_for": stands_for},
        **{"is_path": is_path, "takes_urls": takes_urls, "is_words": is_words},
    }
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def path_option(
    text: str, default: Any = MISSING, *, takes_urls: Sequence[str] | bool = False
) -> Any:
    """The same for a path or a list of paths."""
    return option(text, default=default, is_path=True, takes_urls=takes_urls)


@dataclass
class Options:
    """Base of the classes of options; refuses values that are not allowed.

    Attributes:
        section: what stands before the dot in the names of its options.
        command: whose options these are, and the name of the YAML file with their values.
        recipes: the option that chooses a whole run's values from a folder of YAML files.
        given: names of the options, and of their sections, that the command line sets.
    """

    section = ""
    command = ""
    recipes = ""
    given = frozenset[str]()

    def __init_subclass__(cls, *, section: str = "", command: str = "", recipes: str = "") -> None:
        cls.section = section or cls.section
        cls.command, cls.recipes = command, recipes

    def __post_init__(self) -> None:
        for each in option_fields(type(self)):
            name = f"{self.section}.{each.name}" if self.section else each.name
            allowed = each.metadata["allowed"]
            if allowed is not None:
                for full_name, value in _named_values(name, getattr(self, each.name)):
                    require(value in allowed, full_name, value, str(allowed))


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raises a ValueError that names the option, its value and the allowed ones."""
    if not holds:
        raise ValueError(f"{name}={value}: must be {allowed}")


def option_fields(node: type) -> list[Field]:
    """The options of a class, or of all its kinds, where subclasses are kinds of it."""
    found = {
        each.name: each
        for kind in (node, *node.__subclasses__())
        for each in fields(kind)
        if "help" in each.metadata
    }
    return list(found.values())


def find_option(node: type, name: str, prefix: str = "") -> Field:
    """The declaration of an option.

    Args:
        node: the class that has it.
        name: with dots for what is inside, such as `decoding.workers`.

    Raises:
        ValueError: no such option; near names are given.
    """
    head, _, rest = name.partition(".")
    if new_name := _RENAMED.get(prefix + name):
        raise ValueError(f"option {prefix}{name} is now called {new_name}")
    if name == getattr(node, "recipes", "") != "":
        return option("a whole run's options", group=name)
    known = {each.name: each for each in option_fields(node)}
    _require_known(prefix + head, [prefix + each for each in known])
    inner, _ = without_none(known[head].type)
    if rest and is_dataclass(inner) and isinstance(inner, type):
        return find_option(inner, rest, f"{prefix}{head}.")
    if rest and typing.get_origin(inner) is not dict:
        raise ValueError(f"unknown option {prefix}{name}: {prefix}{head} has no parts")
    return known[head]


def describe(each: Field) -> str:
    """An option's help with the values that are allowed."""
    one, _ = without_none(each.type)
    allowed = each.metadata["allowed"]
    if isinstance(one, type) and issubclass(one, Enum):
        allowed = OneOf(one.__members__)
    return each.metadata["help"] + ("" if allowed is None else f"; {allowed}")


def without_none(field_type: Any) -> tuple[Any, bool]:
    """A declared type without None, and whether None was part of it."""
    if typing.get_origin(field_type) not in (types.UnionType, typing.Union):
        return field_type, False
    (one,) = set(typing.get_args(field_type)) - {type(None)}
    return one, True


def preset_names(group: str) -> list[str]:
    """The YAML files of a group, such as the models in `configs/model/`."""
    folder = files("reelseek.configs").joinpath(group)
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml") and entry.name != "custom.yaml"
    )


def plain_values(config: Options) -> dict[str, Any]:
    """The values as dictionaries, lists, numbers and text, as YAML and JSON have them."""

    def plain(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value.name if isinstance(value, Enum) else value for name, value in pairs}

    return asdict(config, dict_factory=plain)


def _named_values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values that one option holds; none where it has no value yet."""
    if isinstance(value, dict):
        yield from ((f"{name}.{key}", each) for key, each in value.items())
    elif isinstance(value, list):
        yield from ((name, each) for each in value)
    elif value is not None and value != MISSING:
        yield name, value


def _require_known(name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near = near or [each for each in known if len(name) == 1 and each.startswith(name)]
        hint = f"near names: {', '.join(near)}" if near else f"options: {', '.join(known)}"
        raise ValueError(f"unknown option {name}; {hint}")
