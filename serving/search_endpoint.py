"""A search request -> its answer: from the cache, from a search in hand, or by its own search."""

import asyncio
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

from reelseek.ranking.searcher import Searcher
from reelseek.serving import telemetry
from reelseek.serving.admission import deadline_exceeded
from reelseek.serving.answers import Answer
from reelseek.serving.cache import BoundedCache
from reelseek.serving.errors import ApiError
from reelseek.serving.library.state import StateToken
from reelseek.serving.search_request import SearchRequest
from reelseek.serving.services import Services

_LOOK_SECONDS = 0.02
_MAX_WAIT_SECONDS = 30.0  # for the state of the index that a request wants to see

Work = Callable[[Searcher, SearchRequest], Answer]
_State = tuple[int, int]  # generation and revision of an index


class SearchEndpoint:
    """Answers the searches of one event loop; each search runs in a thread when its turn comes.

    Args:
        work: searches, and writes the answer.
    """

    def __init__(self, services: Services, work: Work) -> None:
        self._services = services
        self._work = work
        threads = services.config.threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="search")
        # By request, with the state of the index that they are of.
        self._answers: BoundedCache[tuple[_State, Answer]] = BoundedCache(
            int(services.config.cache_mb * 2**20)
        )
        self._in_hand: dict[Hashable, tuple[_State, asyncio.Future[Answer]]] = {}

    async def answer(self, asked: SearchRequest, *, deadline: float | None) -> tuple[Answer, bool]:
        """Returns the answer, and whether it was kept from before.

        Args:
            deadline: on the clock of `time.monotonic`.

        Raises:
            ApiError: the request is wrong, too many searches wait, or the deadline passes.
        """
        searcher = self._services.searcher
        key = asked.key
        kept, in_hand = self._answers.get(key), self._in_hand.get(key)
        if kept is None and in_hand is None:
            # Turned away before the catalogue is read: its lock and Python's would have to be won
            # from the searches that run.
            self._services.admission.check()
        # Read before the search, so that what is deleted meanwhile is not kept as if it were there.
        state = searcher.generation, searcher.revision
        is_known = kept is not None and kept[0] == state
        telemetry.CACHE.labels("answers", "hit" if is_known else "miss").inc()
        if kept is not None and is_known:
            return kept[1], True
        if in_hand is not None and in_hand[0] == state:
            running = in_hand[1]
        else:  # nobody else waits for the same answer
            running = asyncio.ensure_future(self._work_out(searcher, asked, deadline))
            if deadline is None:  # or it might end for others who have more time
                self._in_hand[key] = state, running
            running.add_done_callback(lambda done: self._keep(key, state, done))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        done, _ = await asyncio.wait([running], timeout=left)
        if not done:
            raise deadline_exceeded()
        return running.result(), False

    async def wait_for_state(self, token: str | None, deadline: float | None) -> None:
        """Waits until the index is read in the state after a write.

        Args:
            token: of the write, a `StateToken`; None not to wait.

        Raises:
            ApiError: it is no token, or the time is over first.
        """
        if token is None:
            return
        try:
            state = StateToken.parse(token)
        except ValueError as error:
            raise ApiError(400, "invalid_request", f"after: {error}") from error
        last = time.monotonic() + _MAX_WAIT_SECONDS
        last = last if deadline is None else min(last, deadline)
        searcher = self._services.searcher
        while searcher.generation < state.generation or searcher.revision < state.revision:
            if time.monotonic() > last:
                raise deadline_exceeded()
            self._services.look_now.set()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _work_out(
        self, searcher: Searcher, asked: SearchRequest, deadline: float | None
    ) -> Answer:
        # A search that has begun is not given up: it holds its turn, and its answer is kept.
        async with self._services.admission.enter(deadline=deadline):
            loop = asyncio.get_running_loop()
            work = self._services.search or self._work
            return await loop.run_in_executor(self._executor, work, searcher, asked)

    def _keep(self, key: Hashable, state: "_State", done: "asyncio.Future[Answer]") -> None:
        if self._in_hand.get(key) == (state, done):
            del self._in_hand[key]
        if not done.cancelled() and done.exception() is None:
            answer = done.result()
            if not answer.is_complete:
                return
            self._answers.put(key, (state, answer), size_bytes=len(answer.body))
