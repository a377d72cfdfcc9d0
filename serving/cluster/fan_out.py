"""One call to several deployments at once -> the answers that came in time.

Ray Serve chooses the replica, by the power of two choices, and sends a call elsewhere that no
replica has accepted. A call here only reads, so that it may be sent again: when the replica that
had accepted it dies, and to a second replica when the first takes longer than 95 % of such calls
do. (Dean and Barroso, "The Tail at Scale", 2013, "Hedged requests".)
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from reelseek.serving.cluster.latencies import Absence, HedgeBudget, Latencies

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.02  # before a call is sent again whose replica died; doubles
_UNKNOWN_FRACTION = 0.25  # of the deadline: when to hedge while no latencies are known
_BROADCAST_SECONDS = 30.0


@dataclass
class _Target:
    """A deployment, and what is known of it."""

    handle: Any
    latencies: dict[str, Latencies] = field(default_factory=dict)
    budget: HedgeBudget = field(default_factory=HedgeBudget)
    absence: Absence = field(default_factory=Absence)


@dataclass(frozen=True)
class _Call:
    """A method of a deployment, and what it is given."""

    name: str
    arguments: Sequence[Any]
    kind: str


class FanOut:
    """Calls deployments; threads may share it.

    Args:
        handles: of the deployments.
        deadline_seconds: for each call of each deployment.
        is_hedged: send slow calls a second time; the deployments have several replicas.
    """

    def __init__(
        self, handles: Sequence[Any], *, deadline_seconds: float, is_hedged: bool = False
    ) -> None:
        self._targets = [_Target(handle) for handle in handles]
        self._deadline_seconds = deadline_seconds
        self._is_hedged = is_hedged
        self.num_hedged = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="fan out", daemon=True).start()

    def __len__(self) -> int:
        return len(self._targets)

    def call(
        self, name: str, arguments: Mapping[int, Sequence[Any]], *, kind: str = ""
    ) -> dict[int, Any]:
        """Calls the method `name` of deployments, all at once.

        Args:
            arguments: of each call, by number of the deployment.
            kind: of call, where the method does several whose latencies differ.

        Returns:
            The answers by number of the deployment; those that came too late are missing.
        """
        calls = {number: _Call(name, own, kind or name) for number, own in arguments.items()}
        return asyncio.run_coroutine_threadsafe(self._call_all(calls), self._loop).result()

    def broadcast(self, name: str) -> None:
        """Calls a method of every replica, and waits; replicas that fail are left alone."""

        async def send() -> None:
            async def to_all(target: _Target) -> None:
                with suppress(Exception):  # a replica that dies will look by itself
                    response = target.handle.broadcast(name)
                    await response.results_async(
                        timeout_s=_BROADCAST_SECONDS, return_exceptions=True
                    )

            await asyncio.gather(*map(to_all, self._targets))

        asyncio.run_coroutine_threadsafe(send(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _call_all(self, calls: Mapping[int, _Call]) -> dict[int, Any]:
        answers = await asyncio.gather(
            *(self._call(self._targets[number], call) for number, call in calls.items())
        )
        return {number: each[0] for number, each in zip(calls, answers, strict=True) if each}

    async def _call(self, target: _Target, call: _Call) -> tuple[Any, ...]:
        """Returns the answer as a tuple of one; an empty one where none came in time."""
        if not target.absence.may_ask(time.monotonic()):
            return ()
        target.budget.note_call()
        answer = await self._answer(target, call)
        target.absence.note(answered=bool(answer), now=time.monotonic())
        return answer

    async def _answer(self, target: _Target, call: _Call) -> tuple[Any, ...]:
        latencies = target.latencies.setdefault(call.kind, Latencies())
        attempts = _Attempts(target.handle, call)
        started = time.monotonic()
        deadline = started + self._deadline_seconds
        usual_seconds = latencies.p95 or _UNKNOWN_FRACTION * self._deadline_seconds
        hedge_at = started + usual_seconds if self._is_hedged else deadline
        pause_seconds = _PAUSE_SECONDS
        try:
            attempts.send()
            while (now := time.monotonic()) < deadline:
                if not attempts.running:  # the replicas that had accepted it are dead
                    await asyncio.sleep(min(pause_seconds, deadline - now))
                    pause_seconds *= 2
                    attempts.send()
                elif now >= hedge_at:
                    hedge_at = now + usual_seconds  # where too many are sent twice, later
                    if target.budget.spend():
                        hedge_at = deadline
                        self.num_hedged += 1
                        attempts.send()
                found = await attempts.first(timeout=min(hedge_at, deadline) - time.monotonic())
                if found is not None:
                    answer, seconds = found
                    latencies.note(seconds)
                    return (answer,)
            return ()
        finally:
            attempts.cancel()


class _Attempts:
    """The attempts at one call; the deployment's request router sends each to another replica."""

    def __init__(self, handle: Any, call: _Call) -> None:
        self._method = getattr(handle, call.name)
        self._call = call
        self._key = secrets.token_hex(8)
        self.running: dict[asyncio.Task[Any], float] = {}

    def send(self) -> None:
        self.running[asyncio.create_task(self._attempt())] = time.monotonic()

    async def first(self, *, timeout: float) -> tuple[Any, float] | None:
        """Waits for an answer; returns it with the seconds that its attempt took."""
        done, _ = await asyncio.wait(
            self.running, timeout=max(0.0, timeout), return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            started = self.running.pop(task)
            error = task.exception()
            if error is None:
                return task.result(), time.monotonic() - started
            logger.warning(
                "is asked again elsewhere",
                extra={"fields": {"call": self._call.kind, "error": _first_line(error)}},
            )
        return None

    def cancel(self) -> None:
        for task in self.running:
            task.cancel()

    async def _attempt(self) -> Any:
        response = self._method.remote(*self._call.arguments, attempt_of=self._key)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
