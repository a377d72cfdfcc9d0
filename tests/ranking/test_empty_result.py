import numpy as np
import pytest

from reelseek.ranking.empty_result import why_nothing
from reelseek.ranking.hits import SearchHit
from reelseek.ranking.request import QueryFilter, Request

REMEDY = "; to look for these words instead, put them in quotes"
OLD = QueryFilter("date < 1990", "before 1990", "before 1990")
SHORT = QueryFilter("duration < 9", "shorter than 9 s", "under 9 s")
USERS = QueryFilter("camera = 'a'")


def why(counts, filters=(), **options):
    """Of filters that let so many videos through each, and all together."""
    where = " and ".join(f"({one.where})" for one in filters) or None
    request = Request(np.ones(3), where=where, filters=filters)
    return why_nothing(request, count=counts.__getitem__, **options)


@pytest.mark.parametrize(
    ("filters", "counts", "said"),
    [
        ([OLD], {"date < 1990": 0}, f"no video before 1990 (from 'before 1990'){REMEDY}"),
        ([USERS], {"camera = 'a'": 0}, """no video that fits where="camera = 'a'\""""),
        (
            [OLD, SHORT],
            {"date < 1990": 3, "duration < 9": 0},
            f"no video shorter than 9 s (from 'under 9 s'){REMEDY}",
        ),
        (
            [OLD, SHORT],
            {"date < 1990": 3, "duration < 9": 4, "(date < 1990) and (duration < 9)": 0},
            "no video before 1990 (from 'before 1990') and also shorter than 9 s (from 'under 9 "
            f"s'){REMEDY}",
        ),
        ([OLD], {"date < 1990": 3, "(date < 1990)": 3}, "nothing matches"),
        ([], {}, "nothing matches"),
    ],
)
def test_the_filters_that_leave_nothing_are_named(filters, counts, said):
    assert why(counts, filters) == said


def test_probability_that_is_too_low_is_said():
    first = SearchHit(1, "abc", "/a", 0.5, 0.0, 1.0, 0.5, 1.0, "a", confidence=0.314)
    said = "nothing matches: the first hit has a probability of 31 % (min_confidence=0.5)"
    assert why({}, min_confidence=0.5, first=first) == said
