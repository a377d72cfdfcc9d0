"""The request router of a deployment whose calls may be sent a second time."""

import random
from collections import OrderedDict
from typing import Any

# For Ray Serve, which imports the class by this name on every node.
ELSEWHERE_ROUTER = f"{__name__}.ElsewhereRouter"

_KEPT = 4096  # calls, of which it is known where they were sent


def __getattr__(name: str) -> type:
    """Makes the class when it is asked for: importing this module does not import Ray."""
    if name == "ElsewhereRouter":
        globals()[name] = _elsewhere_router()
        return globals()[name]
    raise AttributeError(name)


def _elsewhere_router() -> type:
    """Returns the class of a request router of Ray Serve: the power of two choices among the
    replicas that a call was not sent to before.

    Attempts at one call share their argument `attempt_of`. Ray Serve's own router could send the
    second to the replica that is slow with the first, when the others have as much in hand.
    """
    from ray.serve.request_router import RequestRouter

    class ElsewhereRouter(RequestRouter):
        def initialize_state(self, **_: Any) -> None:
            self._sent: OrderedDict[str, set[Any]] = OrderedDict()

        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            before: set[Any] = set()
            if pending_request is not None:
                pending_request.routing_context.should_backoff = True
                before = self._sent.get(pending_request.kwargs.get("attempt_of", ""), before)
            others = [each for each in candidate_replicas if each.replica_id not in before]
            chosen = others or candidate_replicas
            return [random.sample(chosen, min(2, len(chosen)))]

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            key = pending_request.kwargs.get("attempt_of", "")
            if key:
                self._sent.setdefault(key, set()).add(replica_id)
                while len(self._sent) > _KEPT:
                    self._sent.popitem(last=False)

    return ElsewhereRouter
