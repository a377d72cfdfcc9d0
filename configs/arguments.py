"""What a user types, `name=value` or `--name value` -> overrides for Hydra that mean the same.

Hydra has a grammar of its own for values, in which a comma or a bracket means something. A query
or a path is data: values of text options are quoted here, so that they arrive as typed.
"""

import re
import typing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from enum import Enum

from reelseek.configs.options import Options, find_option, preset_names, without_none

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# An item of a list that stands in quotes, up to the comma behind it.
_QUOTED = re.compile(r"""\s*(["'])(.*?)\1\s*(?=,|\Z)""", re.DOTALL)


def prepare_arguments(arguments: Sequence[str], schema: type[Options]) -> list[str]:
    """Checks the names and the values' types of the arguments, and quotes what is text.

    Raises:
        ValueError: an argument that is not `name=value`, an unknown name (near ones are given), or
            a value that is not of its option's type.
    """
    given = list(_split(arguments, schema))
    _require_sections(given, schema)
    overrides: list[str] = []
    lists: dict[str, list[str]] = {}  # an option that is given again adds to its list
    for name, value in given:
        field = find_option(schema, name)
        if field.type == list[str]:
            lists.setdefault(name, []).extend(list_items(value))
        elif group := field.metadata["group"]:
            overrides += _choice(group, value)
        elif typing.get_origin(field.type) is dict:  # a key of the user's own
            number = value if value.startswith("{") else _override(float, name, value)
            overrides.append(f"++{name}={number}")
        elif field.metadata["is_words"]:
            overrides.append(f"{name}={quote(value)}")
        else:
            overrides.append(f"{name}={_override(field.type, name, value)}")
    return overrides + [f"{name}=[{','.join(map(quote, items))}]" for name, items in lists.items()]


def list_items(value: str) -> list[str]:
    """`[A,B]` -> A and B as they are written; what is not in brackets is one item.

    A name may hold brackets that match, and anything else but commas; with a comma it stands in
    quotes: `["a, b.mp4",c.mp4]`. `null` is no item.
    """
    if value in ("", "null"):
        return []
    if not (value.startswith("[") and value.endswith("]") and len(value) > 1):
        return [value]
    items, position, end = [], 1, len(value) - 1
    while position < end:
        if quoted := _QUOTED.match(value[:end], position):
            item, stop = quoted[2], quoted.end()
        else:
            stop = _end_of_item(value, position, end)
            if stop < 0:  # the first bracket is closed early, as in `[2024] trip [raw]`
                return [value]
            item = value[position:stop].strip()
        if item:
            items.append(item)
        position = stop + 1
    return items


def _end_of_item(value: str, position: int, end: int) -> int:
    """Where the next comma is that is not inside brackets; -1 where a bracket closes that was not
    opened. Brackets that are never closed hold nothing."""
    depth, first_comma = 0, end
    for i in range(position, end):
        if value[i] == "[":
            depth += 1
        elif value[i] == "]":
            depth -= 1
            if depth < 0:
                return -1
        elif value[i] == ",":
            if depth == 0:
                return i
            first_comma = min(first_comma, i)
    return end if depth == 0 else first_comma


def quote(value: str) -> str:
    """A Hydra override value that means exactly this text.

    Raises:
        ValueError: the text is `???`, which OmegaConf knows no way to write.
    """
    if value == "???":
        raise ValueError("??? on its own means that a value is missing; write a path as ./???")
    # OmegaConf: backslashes right before `${` are escapes themselves.
    escaped = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)
    # Hydra: inside single quotes, backslashes count as escapes only before a quote.
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", escaped)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _split(arguments: Sequence[str], schema: type[Options]) -> Iterator[tuple[str, str]]:
    """The names and values of the arguments, however they are written."""
    left = deque(arguments)
    while left:
        argument = left.popleft()
        if argument == "--":
            continue
        name, equals, value = argument.lstrip("+").partition("=")
        if argument.startswith("-"):
            name = name.lstrip("-").replace("-", "_")
            if name in ("m", "multirun"):
                raise ValueError(f"{argument}: is not supported; start one command for each run")
            if not equals:
                value = _value_of_dashed(name, left, schema)
        elif not equals:
            raise ValueError(f"argument {argument!r} is not of the form name=value; see --help")
        part = find_option(schema, name).metadata["stands_for"]
        is_whole = part and "." not in name
        yield (f"{name}.{part}" if is_whole else name), value


def _value_of_dashed(name: str, left: deque[str], schema: type[Options]) -> str:
    """The value of `--name`, taken from the arguments that are left; a flag needs none."""
    if find_option(schema, name).type is bool:
        return left.popleft() if left and left[0].lower() in (*_TRUE, *_FALSE) else "true"
    if not left or left[0].startswith("--"):
        raise ValueError(f"--{name} has no value; give --{name} VALUE or {name}=VALUE")
    return left.popleft()


def _require_sections(given: Sequence[tuple[str, str]], schema: type[Options]) -> None:
    """Refuses a part of what may be absent, as a model may, and is not chosen."""
    names = {name for name, _ in given}
    for name in names:
        head, _, part = name.partition(".")
        section, may_be_none = without_none(find_option(schema, head).type)
        if part and may_be_none and is_dataclass(section) and head not in names:
            raise ValueError(f"{name} is given without a {head}: add {head}=NAME")


def _choice(group: str, value: str) -> list[str]:
    """The choice of a preset by its name; a model may have any other name, too."""
    known = preset_names(group)
    if value in known:
        return [f"{group}={value}"]
    if group != "model":
        raise ValueError(f"{group}={value}: must be one of {', '.join(known)}")
    if not value:
        raise ValueError("model is empty: name a preset, an open_clip model or a folder")
    return ["model=custom", f"model.name={quote(value)}"]


def _override(field_type: typing.Any, name: str, value: str) -> str:
    """The value as Hydra reads it.

    Raises:
        ValueError: it is not of the option's type.
    """
    one, may_be_none = without_none(field_type)
    if may_be_none and value == "null":
        return value
    if one is str:
        return quote(value)
    if isinstance(one, type) and issubclass(one, Enum):
        return _checked(
            name, value, one.__members__.__getitem__, f"one of {', '.join(one.__members__)}"
        ).name
    if one is bool:
        return str(_checked(name, value.lower(), _truth, "true or false")).lower()
    if one is int:
        return str(_checked(name, value, int, "a whole number"))
    if one is float:
        return str(_checked(name, value, float, "a number"))
    if value != "default":  # as in `decoding=default`, the one way to decode that is named
        raise ValueError(f"{name}={value}: has parts of its own; give them as {name}.PART=VALUE")
    return value


def _truth(value: str) -> bool:
    if value not in (*_TRUE, *_FALSE):
        raise ValueError(value)
    return value in _TRUE


def _checked(
    name: str, value: str, convert: Callable[[str], typing.Any], allowed: str
) -> typing.Any:
    try:
        return convert(value)
    except (KeyError, ValueError):
        raise ValueError(f"{name}={value}: must be {allowed}") from None
