"""How many examples each user may give, in bounded memory."""

__all__ = ["UserBound"]


class UserBound:
    """Counts by user in periods of event time, of the users with the most (Misra and Gries 1982).

    With k counters, a count is too low by at most the events of the period divided by k, so that
    whoever gives a noticeable share of them is counted nearly in full, however many ids there are.

    Args:
        max_examples: of a user in a period.
        period_seconds: of the clock of the log.
        num_counters: k.
    """

    def __init__(
        self, max_examples: int, *, period_seconds: float = 3600.0, num_counters: int = 100_000
    ) -> None:
        self._max_examples, self._period_seconds = max_examples, period_seconds
        self._num_counters = num_counters
        self._period = -1
        self._counts: dict[str, int] = {}

    def admits(self, user: str, now_seconds: float) -> bool:
        """Counts one example; returns whether the user may give it."""
        period = int(now_seconds // self._period_seconds)
        if period != self._period:
            self._period, self._counts = period, {}
        num = self._counts.get(user, 0) + 1
        if num > self._max_examples:
            return False
        if num == 1 and len(self._counts) >= self._num_counters:
            self._counts = {each: count - 1 for each, count in self._counts.items() if count > 1}
        else:
            self._counts[user] = num
        return True

    def forget(self, users: list[str]) -> None:
        for user in users:
            self._counts.pop(user, None)

    def users(self) -> list[str]:
        return list(self._counts)

    def state(self) -> tuple[int, dict[str, int]]:
        return self._period, self._counts

    def restore(self, state: tuple[int, dict[str, int]]) -> None:
        self._period, self._counts = state[0], dict(state[1])
