"""The request router of a deployment whose calls may be sent a second time."""

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

# For Ray Serve, which imports the class by this name on every node.
ELSEWHERE_ROUTER = f"{__name__}.ElsewhereRouter"

_KEPT = 4096  # calls, of which it is known where they were sent

Replica = TypeVar("Replica", bound=Hashable)


class Lateness:
    """Which replicas are slow, by the share of their calls that had to be sent a second time.

    Calls go to those that are not, but for one in twenty, which find out whether a slow one is fast
    again. Without this, half of the calls of a shard with a slow replica of two would wait for
    their second attempt.
    """

    _RATE = 1 / 16  # that a call changes a replica's share by
    _HALF_LIFE_SECONDS = 10.0
    _MARGIN = 0.25  # a share that is so much greater than the least is slow
    _TRIED = 0.05  # of the calls go to any replica

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shares: dict[Hashable, tuple[float, float]] = {}  # and when it was so

    def note_sent(self, replica: Hashable) -> None:
        self._shares[replica] = self._share(replica) * (1 - self._RATE), self._clock()

    def note_late(self, replica: Hashable) -> None:
        """One of the calls that were sent to this replica was sent to another one, too."""
        self._shares[replica] = min(1.0, self._share(replica) + self._RATE), self._clock()

    def on_time(self, replicas: Sequence[Replica]) -> list[Replica]:
        """Returns the replicas to choose from, and forgets all others."""
        self._shares = {each: self._shares[each] for each in replicas if each in self._shares}
        shares = [self._share(each) for each in replicas]
        if not shares or random.random() < self._TRIED:
            return list(replicas)
        most = min(shares) + self._MARGIN
        return [each for each, share in zip(replicas, shares, strict=True) if share <= most]

    def _share(self, replica: Hashable) -> float:
        share, since = self._shares.get(replica, (0.0, 0.0))
        return share * 0.5 ** ((self._clock() - since) / self._HALF_LIFE_SECONDS) if share else 0.0


def __getattr__(name: str) -> type:
    """Makes the class when it is asked for: importing this module does not import Ray."""
    if name == "ElsewhereRouter":
        globals()[name] = _elsewhere_router()
        return globals()[name]
    raise AttributeError(name)


def _elsewhere_router() -> type:
    """Returns the class of a request router of Ray Serve: the power of two choices among the
    replicas that a call was not sent to before; for a first attempt, among those that are on time.

    Attempts at one call share their argument `attempt_of`. Ray Serve's own router could send the
    second to the replica that is slow with the first, when the others have as much in hand.
    """
    from ray.serve.request_router import RequestRouter

    class ElsewhereRouter(RequestRouter):
        def initialize_state(self, **_: Any) -> None:
            self._sent: OrderedDict[str, list[Any]] = OrderedDict()
            self._lateness = Lateness()

        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            before: list[Any] = []
            if pending_request is not None:
                pending_request.routing_context.should_backoff = True
                before = self._sent.get(pending_request.kwargs.get("attempt_of", ""), before)
            if before:
                chosen = [each for each in candidate_replicas if each.replica_id not in before]
            else:
                on_time = set(self._lateness.on_time([r.replica_id for r in candidate_replicas]))
                chosen = [each for each in candidate_replicas if each.replica_id in on_time]
            chosen = chosen or candidate_replicas
            return [random.sample(chosen, min(2, len(chosen)))]

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            key = pending_request.kwargs.get("attempt_of", "")
            if key:
                before = self._sent.setdefault(key, [])
                if before:
                    self._lateness.note_late(before[-1])
                before.append(replica_id)
                self._lateness.note_sent(replica_id)
                while len(self._sent) > _KEPT:
                    self._sent.popitem(last=False)

    return ElsewhereRouter
