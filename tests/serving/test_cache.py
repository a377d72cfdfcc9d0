"""The least recently used goes first, and the bytes stay within the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelseek.serving.cache import _ENTRY_BYTES, BoundedCache

LIMIT = 10 * _ENTRY_BYTES


def test_the_least_recently_used_goes_first():
    cache = BoundedCache[int](3 * (_ENTRY_BYTES + 10))
    for key in "abc":
        cache.put(key, ord(key), size_bytes=10)
    assert cache.get("a") == ord("a")
    cache.put("d", 4, size_bytes=10)
    assert cache.get("b") is None
    assert [cache.get(key) for key in "acd"] == [ord("a"), ord("c"), 4]


@pytest.mark.parametrize("limit", [0, 100])
def test_what_is_too_large_is_not_kept(limit):
    cache = BoundedCache[int](limit)
    cache.put("a", 1, size_bytes=1)
    assert cache.get("a") is None


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, LIMIT))))
def test_bounded_and_never_wrong(operations):
    cache = BoundedCache[int](LIMIT)
    last: dict[int, int] = {}
    for key, size_bytes in operations:
        known = cache.get(key)
        assert known is None or known == last[key]
        last[key] = size_bytes
        cache.put(key, size_bytes, size_bytes=size_bytes)
        assert cache._entries.currsize <= LIMIT
