"""Deployments without Ray: replicas in this process that are slow, dead or away when told to."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from reelseek.serving.cluster.shards import ShardGroup


class Died(Exception):
    """A replica died with a call in hand."""


class FakeReplica:
    """Answers as a replica does.

    Attributes:
        seconds: that each call takes.
        fails: whether the replica dies of each call.
        num_calls: that have come.
    """

    def __init__(self, work: Callable[..., Any], *, seconds: float = 0.0, fails: bool = False):
        self.work, self.seconds, self.fails = work, seconds, fails
        self.num_calls = self.num_cancelled = 0

    async def call(self, *arguments: Any) -> Any:
        self.num_calls += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.fails:
            raise Died("it is gone")
        return self.work(*arguments)


class _Response:
    def __init__(self, call: Any) -> None:
        self._task = asyncio.ensure_future(call)

    def __await__(self):
        return self._task.__await__()

    def cancel(self) -> None:
        self._task.cancel()


class FakeHandle:
    """The handle of a deployment; attempts at one call go to different replicas, in turn.

    Attributes:
        keys: `attempt_of` of all calls.
    """

    def __init__(self, replicas: Sequence[FakeReplica]) -> None:
        self.replicas = list(replicas)
        self.keys: list[str] = []
        self.answer = self

    def remote(self, *arguments: Any, attempt_of: str) -> _Response:
        replica = self.replicas[self.keys.count(attempt_of) % len(self.replicas)]
        self.keys.append(attempt_of)
        return _Response(replica.call(*arguments))

    def broadcast(self, name: str) -> Any:
        raise Died("no replica is told")


def group_handle(group: ShardGroup, *, num_replicas: int = 1) -> FakeHandle:
    return FakeHandle([FakeReplica(group.answer) for _ in range(num_replicas)])
