"""An answer and a user -> the same hits in the order that the user is for, as far as that is known.

Relevance decides which hits an answer has. What was learned of a user only moves hits among those
that are about as relevant, within one page; it says so in their `reasons`.
"""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from reelseek.configs.schema import ServeConfig
from reelseek.indexing.reader import IndexReader
from reelseek.recommendation.catalogue import ItemCatalogue
from reelseek.recommendation.content import IndexContent
from reelseek.recommendation.learning.content_codes import content_codes
from reelseek.recommendation.learning.redis_files import RedisFiles
from reelseek.recommendation.learning.status import PublishedStatus, read_status
from reelseek.recommendation.personal.facts import facts_of_metadata, facts_of_rows
from reelseek.recommendation.personal.follower import DEFAULT_FOLDER, ModelFollower
from reelseek.recommendation.personal.ordering import personal_order
from reelseek.recommendation.personal.reasons import personal_reasons
from reelseek.recommendation.personal.video_codes import VideoCodes
from reelseek.recommendation.redis_server import RedisServer, is_redis, parse_address
from reelseek.serving import telemetry
from reelseek.serving.answers import Answer

if TYPE_CHECKING:
    from reelseek.ranking.searcher import Searcher

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
        searcher: of the index, as soon as there is one; where that is on other machines, it is not
            known what hits show.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        weight: float,
        searcher: Callable[[], "Searcher | None"] = lambda: None,
    ) -> None:
        self._place, self._weight, self._searcher = place, weight, searcher
        self._codes = VideoCodes()
        self._published: PublishedStatus | None = None
        if isinstance(place, Path):
            self._follower = ModelFollower(place, loading=_collecting_later)
        else:
            # Not looked at now: a worker that starts while the server is away searches, too.
            files = RedisFiles(RedisServer(parse_address("personal.model", place)))
            self._follower = ModelFollower(files, loading=_collecting_later)
            self._published = PublishedStatus(files)

    @classmethod
    def from_config(
        cls, config: ServeConfig, *, searcher: Callable[[], "Searcher | None"] = lambda: None
    ) -> "Personalization | None":
        """Returns None where nothing is learned."""
        place = learned_place(config)
        if place is None:
            return None
        return cls(place, weight=config.personal.weight, searcher=searcher)

    @property
    def is_on(self) -> bool:
        """Whether answers are ordered for users."""
        return self._weight > 0

    def start(self) -> None:
        """Begins to follow what is learned, in a thread, where it is of use."""
        if self.is_on:
            self._follower.start()
        if self._published is not None:
            self._published.start()

    def close(self) -> None:
        self._follower.close()
        if self._published is not None:
            self._published.close()

    def status(self) -> dict[str, Any] | None:
        """Returns what the learner says of itself, and `served_position`, up to which this process
        has taken over what was learned; None where nothing was learned yet."""
        followed = self._follower.current
        if self._published is not None:
            status = self._published.current
        else:
            status = read_status(Path(self._place))
        if status is None and followed is None:
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
        codes = self._codes_of(user, [hit["id"] for hit in hits])
        facts = [
            replace(
                facts_of_metadata(
                    hit["metadata"], duration_seconds=hit["duration_seconds"], date=hit["date"]
                ),
                code=codes.get(hit["id"], b""),
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
        self, catalogue: ItemCatalogue, content: IndexContent, user: str, rows: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Returns how much a user is for videos of a catalogue, `(n,)`, -1 to 1, and why."""
        facts = facts_of_rows(catalogue, rows)
        if self._follower.has_taste(user):
            codes = content_codes(content.embeddings(rows))
            facts = [replace(each, code=code) for each, code in zip(facts, codes, strict=True)]
        found = self._follower.score(user, facts)
        return found.scores, personal_reasons(found, facts)

    def _codes_of(self, user: str, videos: Sequence[str]) -> dict[str, bytes]:
        """Returns what videos show, where that makes a difference to the user and is known."""
        searcher = self._searcher()
        if searcher is None or not isinstance(searcher.reader, IndexReader):
            return {}
        return self._codes.find(searcher.reader, videos) if self._follower.has_taste(user) else {}
