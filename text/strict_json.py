"""Values <-> JSON as RFC 8259 has it, without the NaN and the infinities that Python adds to it.

What is not a finite number becomes `null`, going out and coming in: other programs refuse a whole
document for one NaN in it.
"""

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """`json.dumps`, with null for numbers that are not finite."""
    return json.dumps(finite(value), allow_nan=False, **options)


def loads(text: str | bytes) -> Any:
    """`json.loads`, with None for numbers that are not finite, such as `NaN` and `1e999`.

    Raises:
        ValueError: it is not JSON.
    """
    return json.loads(text, parse_float=_finite_number, parse_constant=lambda _: None)


def finite(value: Any) -> Any:
    """The same value, in which numbers that are not finite are None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _key(key: Any) -> Any:
    return None if isinstance(key, float) and not math.isfinite(key) else key


def _finite_number(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None
