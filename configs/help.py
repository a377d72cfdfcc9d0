"""A command's options and their default values -> the page that `--help` prints."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from reelseek.configs.options import (
    MISSING,
    Options,
    describe,
    option_fields,
    preset_names,
    without_none,
)


def help_text(schema: type[Options], usage: str, values: dict[str, Any]) -> str:
    """The usage, then the options with their meanings and default values."""
    lines = [usage, "", "options (name=value, or --name value):"]
    for name, text, default in option_rows(schema, values):
        lines.append(f"  {name:<31}{text}{f' [{default}]' if default else ''}")
    groups = [each.metadata["group"] for each in option_fields(schema)] + [schema.recipes]
    lines += [f"{group}s: {', '.join(preset_names(group))}" for group in groups if group]
    lines.append("Errors are one line; REELSEEK_TRACEBACK=1 shows where they arose.")
    return "\n".join(lines)


def option_rows(
    schema: type, values: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Each option's name, meaning with the allowed values, and default; empty where it has none."""
    kinds = (schema, *schema.__subclasses__())
    chosen = next(kind for kind in kinds if {each.name for each in fields(kind)} == values.keys())
    for each in option_fields(chosen):
        name, value = prefix + each.name, values[each.name]
        section, _ = without_none(each.type)
        if not is_dataclass(section) or each.metadata["group"]:
            yield name, describe(each), "" if is_dataclass(section) else _shown(value)
        if isinstance(value, dict) and is_dataclass(section) and isinstance(section, type):
            yield from option_rows(section, value, f"{name}.")


def _shown(value: Any) -> str:
    if value in (None, MISSING, [], {}):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
