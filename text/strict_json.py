"""Reads and writes JSON without NaN and infinities (RFC 8259).

They become `null` in both directions, since other programs reject a document for one NaN.
"""

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """Returns `json.dumps` with null for numbers that are not finite."""
    return json.dumps(finite(value), allow_nan=False, **options)


def loads(text: str | bytes) -> Any:
    """Returns `json.loads` with None for numbers that are not finite, such as `NaN` and `1e999`.

    Raises:
        ValueError: The text is not JSON.
    """
    return json.loads(
        text, parse_float=lambda digits: finite(float(digits)), parse_constant=lambda _: None
    )


def finite(value: Any) -> Any:
    """Returns the value with None for numbers that are not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            finite(key) if isinstance(key, float) else key: finite(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
