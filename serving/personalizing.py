"""An answer and a user -> the same hits in the order that the user is for, as far as that is known.

Relevance decides which hits an answer has. What was learned of a user only moves hits among those
that are about as relevant, within one page; it says so in their `reasons`.
"""

import gc
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from reelseek.configs.schema import Engine, ServeConfig
from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.learning.status import read_status
from reelseek.recommendation.personal.facts import facts_of_metadata, facts_of_rows
from reelseek.recommendation.personal.follower import DEFAULT_FOLDER, ModelFollower
from reelseek.recommendation.personal.ordering import personal_order
from reelseek.recommendation.personal.reasons import personal_reasons
from reelseek.recommendation.redis_server import RedisServer, is_redis, parse_address
from reelseek.serving import telemetry
from reelseek.serving.answers import Answer

__all__ = ["Personalization", "learned_place"]

_DIGITS = 4


def learned_place(config: ServeConfig) -> Path | str | None:
    """Returns the folder of the model that is learned from the events, or the address of the Redis
    server that it is published in; None without events."""
    named = config.personal.model or config.events
    if named is None or is_redis(named):
        return named
    return Path(named) if config.personal.model is not None else Path(named) / DEFAULT_FOLDER


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Keeps the garbage collector away from a model, whose millions of keys live for long: going
    through them would stop all threads for some tenths of a second, again and again."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


class Personalization:
    """Threads may share it.

    Args:
        place: of the learned model, which need not be there yet; see `learned_place`.
        weight: of what was learned, in the order of hits; 0 for none, but what the learner says.
    """

    def __init__(self, place: Path | str, *, weight: float) -> None:
        self._place, self._weight = place, weight
        # Not looked at now: a worker that starts while the server is away searches all the same.
        files = (
            place
            if isinstance(place, Path)
            else RedisFiles(RedisServer(parse_address("personal.model", place)))
        )
        self._follower = ModelFollower(files, loading=_collecting_later)

    @classmethod
    def from_config(cls, config: ServeConfig) -> "Personalization | None":
        """Returns None where nothing is learned. A cluster orders nothing for users."""
        place = learned_place(config)
        if place is None:
            return None
        is_local = config.engine is Engine.local
        return cls(place, weight=config.personal.weight if is_local else 0.0)

    @property
    def is_on(self) -> bool:
        """Whether answers are ordered for users."""
        return self._weight > 0

    def start(self) -> None:
        """Begins to follow what is learned, in a thread, where it is of use."""
        if self.is_on:
            self._follower.start()

    def close(self) -> None:
        self._follower.close()

    def status(self) -> dict[str, Any] | None:
        """Returns what the learner says of itself, where it has this folder, and `served_position`,
        up to which this process has taken over what was learned; None where nothing was learned
        yet."""
        followed = self._follower.current
        status = read_status(self._place) if isinstance(self._place, Path) else {}
        if not status and followed is None:
            return None
        status = {"runs": False} if status is None else status
        if followed is not None:
            status["frozen"] = followed.frozen or status.get("frozen")
        return {**status, "served_position": None if followed is None else followed.position}

    def note_metrics(self) -> None:
        """Sets the metrics of the learner, and of what this process serves."""
        self.note_position()
        status = self.status()
        if status is not None:
            telemetry.note_learning(status)

    def note_position(self) -> None:
        """Sets the metric of what this process serves; each worker does, as only one of them is
        asked for the metrics of all."""
        followed = self._follower.current
        if followed is not None:
            telemetry.LEARNED_POSITION.set(followed.position)

    def ordered(self, answer: Answer, user: str) -> Answer:
        """Orders the hits of a search for a user; returns the same answer where nothing is known of
        the user that would tell them apart."""
        followed = self._follower.current
        if not user or followed is None or not answer.score_unit:
            return answer
        started = time.perf_counter()
        body = msgspec.json.decode(answer.body)
        hits = body["hits"]
        facts = [
            facts_of_metadata(
                hit["metadata"], duration_seconds=hit["duration_seconds"], date=hit["date"]
            )
            for hit in hits
        ]
        found = self._follower.score(user, facts)
        personal = found.scores
        if not personal.any():
            return answer
        order = personal_order(
            [hit["score"] for hit in hits], personal, bound=self._weight * answer.score_unit
        )
        first_rank = hits[0]["rank"]
        reasons = personal_reasons(found, facts)
        body["hits"] = [
            {
                **hits[old],
                "rank": first_rank + new,
                "relevance_rank": hits[old]["rank"],
                "personal": round(float(personal[old]), _DIGITS),
                "reasons": list(reasons[old]),
            }
            for new, old in enumerate(order)
        ]
        body["learned_position"] = followed.position
        content = msgspec.json.encode(body)
        etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        seconds = {**answer.stage_seconds, "personal": time.perf_counter() - started}
        return replace(answer, body=content, etag=etag, stage_seconds=seconds)

    def of_rows(
        self, catalogue: ItemCatalogue, user: str, rows: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Returns how much a user is for videos of a catalogue, `(n,)`, -1 to 1, and why."""
        facts = facts_of_rows(catalogue, rows)
        found = self._follower.score(user, facts)
        return found.scores, personal_reasons(found, facts)
