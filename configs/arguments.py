"""What a user types, `name=value` or `--name value` -> overrides for Hydra that mean the same.

Hydra has a grammar of its own for values, in which a comma or a bracket means something. A query
or a path is data: values of text options are quoted here, so that they arrive as typed.
"""

import re
import typing
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

from reelseek.configs.options import (
    GROUPS,
    RECIPES,
    SCHEMAS,
    find_option,
    preset_names,
    without_none,
)
from reelseek.configs.paths import escape_interpolation

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# An item of a list that stands in quotes, up to the comma behind it.
_QUOTED = re.compile(r"""\s*(["'])(.*?)\1\s*(?=,|\Z)""", re.DOTALL)


def prepare_arguments(arguments: Sequence[str], *, config_name: str) -> list[str]:
    """Checks the names and the values' types of the arguments, and quotes what is text.

    Raises:
        ValueError: an argument that is not `name=value`, an unknown name (near ones are given), or
            a value that is not of its option's type.
    """
    node = SCHEMAS[config_name]
    given = _given(arguments, config_name)
    names = {name for name, _ in given}
    prepared: list[str] = []
    lists: dict[str, list[str]] = {}  # an option that is given again adds to its list
    for name, value in given:
        plain = name.lstrip("+~")
        if name.startswith("hydra."):
            prepared.append(f"{name}={value}")
            continue
        if name == RECIPES and config_name == "train":
            prepared.append(f"{name}={_preset(name, value)}")
            continue
        field = find_option(node, plain)
        if plain in GROUPS:
            prepared += _group(name, value)
            continue
        if plain.startswith("model.") and "model" not in names and config_name != "train":
            raise ValueError(f"{name} is given without a model: add model=NAME")
        if field.type == list[str]:
            lists.setdefault(name, []).extend(list_items(value))
        elif typing.get_origin(field.type) is dict:
            number = value if value.startswith("{") else _override(float, plain, value)
            prepared.append(f"++{plain}={number}")  # a key of the user's own
        elif field.metadata.get("is_words"):
            prepared.append(f"{name}={quote(value)}")
        else:
            prepared.append(f"{name}={_override(field.type, plain, value)}")
    prepared += [f"{name}=[{','.join(map(quote, items))}]" for name, items in lists.items()]
    return prepared


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
    escaped = escape_interpolation(value)
    # Hydra: inside single quotes, backslashes count as escapes only before a quote.
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", escaped)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _given(arguments: Sequence[str], config_name: str) -> list[tuple[str, str]]:
    """The names and values of the arguments, however they are written."""
    given = []
    left = deque(arguments)
    while left:
        argument = left.popleft()
        if argument == "--":
            continue
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            name = argument.lstrip("-").partition("=")[0].replace("-", "_")
            if not equals:
                value = _value_of_dashed(name, left, config_name)
        elif not equals:
            raise ValueError(f"argument {argument!r} is not of the form name=value; see --help")
        if config_name == "index" and name == "index":
            name = "index.folder"
        given.append((name, value))
    return given


def _value_of_dashed(name: str, left: deque[str], config_name: str) -> str:
    """The value of `--name`, taken from the arguments that are left; a flag needs none."""
    if name == RECIPES and config_name == "train":
        is_flag = False
    else:
        is_flag = find_option(SCHEMAS[config_name], name).type is bool
    if is_flag:
        return left.popleft() if left and left[0].lower() in (*_TRUE, *_FALSE) else "true"
    if not left or left[0].startswith("--"):
        raise ValueError(f"--{name} has no value; give --{name} VALUE or {name}=VALUE")
    return left.popleft()


def _preset(group: str, value: str) -> str:
    known = preset_names(group)
    if value not in known:
        raise ValueError(f"{group}={value}: must be one of {', '.join(known)}")
    return value


def _group(name: str, value: str) -> list[str]:
    """The choice of a model, which may be any name, or of a way to sample."""
    if name != "model":
        return [f"{name}={_preset(name, value)}"]
    if not value:
        raise ValueError("model is empty: name a preset, an open_clip model or a folder")
    if value in preset_names("model"):
        return [f"model={value}"]
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
