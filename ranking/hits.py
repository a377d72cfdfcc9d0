"""What a search answers with."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reelseek.text.terminal import clock

if TYPE_CHECKING:
    from reelseek.ranking.cursor import Cursor
    from reelseek.ranking.request import Request
    from reelseek.text.query.analyzer import AnalyzedQuery


@dataclass(frozen=True)
class Copy:
    """Another video with the content of one that was found; fields as of `SearchHit`."""

    id: str
    key: str
    video: str


@dataclass(frozen=True, repr=False)
class SearchHit:
    """One answer.

    Attributes:
        rank: 1 is the best.
        id: what the video is called, the same wherever it moves and whatever index holds it.
        video: the file's path.
        score: what hits are ordered by: cosine similarity of the query and the video (or the
            moment's best segment), less what is taken off for showing what was excluded; where
            texts were found too, the sum of reciprocal ranks of `ranking.fusion`.
        start_seconds: of the moment; 0.0 for a whole video.
        end_seconds: of the moment; the duration for a whole video.
        best_seconds: the middle of the segment, of those in the hit, that matches best.
        duration_seconds: of the whole video.
        key: the video's path below its root.
        metadata: what the collection says of it: captions, title, tags, ...
        confidence: probability that it matches; None where that was not worked out.
        evidence: what put it there, see `ranking.evidence`; empty where nothing but the picture
            was looked at.
        date: when it was made, as filters compare it, in ISO 8601 as far as it is known.
        date_source: who says so: `list`, a tag of the file such as `creation_time` or
            `DateTimeOriginal`, or `file time`.
        also_as: other videos of the same content, which are no hits of their own.
    """

    rank: int
    id: str
    video: str
    score: float
    start_seconds: float
    end_seconds: float
    best_seconds: float
    duration_seconds: float
    key: str
    metadata: dict = field(default_factory=dict)
    confidence: float | None = None
    evidence: tuple[Any, ...] = ()
    date: str = ""
    date_source: str = ""
    also_as: tuple[Copy, ...] = ()

    @property
    def match(self) -> str:
        """The probability of a match, in percent; `-` where it was not worked out."""
        if self.confidence is None:
            return "-"
        percent = round(100 * self.confidence)
        if percent in (0, 100):  # nothing is that certain
            return "<1 %" if percent == 0 else ">99 %"
        return f"{percent} %"

    def __repr__(self) -> str:
        seconds = f"{clock(self.start_seconds)}-{clock(self.end_seconds)}"
        return f"SearchHit(rank={self.rank}, key={self.key!r}, time={seconds}, match={self.match})"

    def _repr_html_(self) -> str:
        return SearchResults([self])._repr_html_()


class SearchResults(list[SearchHit]):
    """The hits of a search, best first, which a notebook shows with a picture of each.

    Args:
        hits: best first.
        why_empty: why there is none, for people.
        meaning: what a sentence was taken to mean; None where it was not analysed.
        stage_seconds: how long each stage of the search took, see `ranking.stages`.
        generation: of the index that answered.
        request: what the query was to the index, for `Searcher.match_segments`.
        next_cursor: where the next page begins; None where there is none.
        shards_answered: how many shards answered, and of how many; an index on one machine is one.
    """

    def __init__(
        self,
        hits: Iterable[SearchHit] = (),
        *,
        why_empty: str = "",
        meaning: "AnalyzedQuery | None" = None,
        stage_seconds: dict[str, float] | None = None,
        generation: int = 0,
        request: "Request | None" = None,
        next_cursor: "Cursor | None" = None,
        shards_answered: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__(hits)
        self.why_empty = why_empty
        self.meaning = meaning
        self.stage_seconds = stage_seconds or {}
        self.generation = generation
        self.request = request
        self.next_cursor = next_cursor
        self.shards_answered = shards_answered

    def __repr__(self) -> str:
        lines = ",\n ".join(map(repr, self))
        return f"[{lines}]"

    def _repr_html_(self) -> str:
        from reelseek.ranking.page import hits_html  # which needs what decodes

        return hits_html(self)
