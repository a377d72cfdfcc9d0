"""Published files -> text, JSON and fields; errors name the file and line or entry."""

import json
from collections.abc import Iterator
from pathlib import Path


def read_text(path: Path) -> str:
    """Returns the file as UTF-8 text, without a byte order mark.

    Raises:
        ValueError: it cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def iter_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields each line with its location for messages; skips blank lines."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def read_json(path: Path) -> object:
    """Returns the file's JSON value.

    Raises:
        ValueError: it cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from error


def field(entry: object, name: str, where: str) -> str:
    """Returns a string field of a JSON object.

    Raises:
        ValueError: `entry` is not an object, or the field is missing, blank or not a string.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: must be an object with `{name}`, is {_short(entry)}")
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: `{name}` is missing or is not text")
    return value


def _short(value: object) -> str:
    return repr(value)[:60]
