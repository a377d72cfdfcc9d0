"""What a search answers with."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SearchHit:
    """One answer.

    Attributes:
        rank: 1 is the best.
        video: the file's path.
        score: cosine similarity of the query and the video (or the moment's best segment).
        start_seconds: of the moment; 0.0 for a whole video.
        end_seconds: of the moment; the duration for a whole video.
        best_seconds: the middle of the segment, of those in the hit, that matches best.
        duration_seconds: of the whole video.
        key: the video's identity in the index.
        metadata: what the collection says of it: captions, title, tags, ...
    """

    rank: int
    video: str
    score: float
    start_seconds: float
    end_seconds: float
    best_seconds: float
    duration_seconds: float
    key: str
    metadata: dict = field(default_factory=dict)
