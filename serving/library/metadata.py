"""Metadata that people send for a video -> the changes that the catalogue keeps."""

from typing import Any

from reelseek.indexing.sources.captions import CaptionReader, unique
from reelseek.indexing.store.dates import CAPTURED
from reelseek.serving.library.errors import InvalidRequest
from reelseek.text import strict_json

MAX_LETTERS = 1 << 16  # of one change, as JSON
MAX_NAME_LETTERS = 200
MAX_DEPTH = 8


def checked_changes(values: Any) -> dict[str, Any]:
    """Returns new metadata of a video; None removes a value.

    Args:
        values: `title`, `captions`, `tags` and any further names.

    Raises:
        InvalidRequest: they are no metadata.
    """
    if not isinstance(values, dict) or not values:
        raise InvalidRequest("metadata must be an object with the values to change")
    if _is_deeper(values, MAX_DEPTH):
        raise InvalidRequest(f"metadata: nested more than {MAX_DEPTH} deep")
    text = strict_json.dumps(values, ensure_ascii=False)
    if len(text) > MAX_LETTERS:
        raise InvalidRequest(f"metadata: over {MAX_LETTERS} letters")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidRequest("metadata: has half a character")
    for name in values:
        if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME_LETTERS:
            raise InvalidRequest(f"metadata: a name must have 1 to {MAX_NAME_LETTERS} letters")
    if CAPTURED in values:
        raise InvalidRequest(f"metadata.{CAPTURED}: comes from the file; give a date instead")
    _check_text("title", values.get("title"))
    tags = values.get("tags")
    for tag in tags if isinstance(tags, list) else [tags]:
        _check_text("tags", tag)
    return values | ({"captions": _captions(values["captions"])} if "captions" in values else {})


def _captions(value: Any) -> list[str] | None:
    reader = CaptionReader("metadata")
    captions = unique(reader.read(value, "captions"))
    if reader.left_out:
        raise InvalidRequest(f"metadata.{reader.left_out[0]}")
    return captions or None


def _check_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"metadata.{name}: must be text, is {value!r:.40}")


def _is_deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(each, depth - 1) for each in inner)
