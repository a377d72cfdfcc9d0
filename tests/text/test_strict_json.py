import json
import math

import numpy as np
import pytest

from reelseek.text import strict_json

NAN, INFINITY = float("nan"), float("inf")


def refuse(constant):
    pytest.fail(f"not JSON: {constant}")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NAN, None),
        ([INFINITY, -INFINITY, 0.5, 3, True, "NaN", None], [None, None, 0.5, 3, True, "NaN", None]),
        ({"a": {"b": [(1.0, NAN)]}}, {"a": {"b": [[1.0, None]]}}),
        (np.float64("nan"), None),
        ({NAN: 1, 2.5: 2}, {"null": 1, "2.5": 2}),
    ],
)
def test_what_is_written_is_json(value, expected):
    assert json.loads(strict_json.dumps(value), parse_constant=refuse) == expected


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_not_finite_are_read_as_nothing(number):
    assert strict_json.loads(f'{{"score": [{number}, 1.5, 7]}}') == {"score": [None, 1.5, 7]}


def test_what_is_written_is_read_again():
    value = {"é": [1, -0.25, 1e300, 10**30, "\n\u2028", {}], "b": False}
    assert strict_json.loads(strict_json.dumps(value)) == value
    assert all(math.isfinite(x) for x in strict_json.loads("[1e308, 1e-400]"))


def test_what_is_not_json_is_refused():
    with pytest.raises(ValueError):
        strict_json.loads("{'a': 1}")
