"""Events in order of time -> batches that are predicted before any of them is learned."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

__all__ = ["batches_of"]


def batches_of(
    user: np.ndarray,
    time_ms: np.ndarray,
    *,
    max_ms: int,
    max_events: int,
    cuts_ms: Sequence[int] = (),
) -> Iterator[slice]:
    """Cuts a log into batches. Where the cuts are depends on the log alone.

    A batch ends before a user's second event, so that each user is followed at once; after a time,
    or a number of events; and at given times. Events of the same millisecond stay together, as
    none of them is known before the others.

    Args:
        user: `(n,)` ids.
        time_ms: `(n,)`, ascending.
        max_ms: from the first event of a batch to its last.
        max_events: in a batch, but for those of one millisecond.
        cuts_ms: no batch has events on both sides of these.
    """
    times, users = time_ms.tolist(), user.tolist()
    moments = [*np.flatnonzero(np.diff(time_ms, prepend=time_ms[:1] - 1)).tolist(), len(times)]
    first, seen = 0, set[object]()
    for begin, end in pairwise(moments):
        now, new = times[begin], users[begin:end]
        is_full = (
            now - times[first] > max_ms
            or end - first > max_events
            or not seen.isdisjoint(new)
            or any(times[first] < cut <= now for cut in cuts_ms)
        )
        if is_full and begin > first:
            yield slice(first, begin)
            first, seen = begin, set()
        seen.update(new)
    if len(times):
        yield slice(first, len(times))
