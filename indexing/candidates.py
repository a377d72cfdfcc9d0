"""The request that a shard gathers candidates for, and the candidates with their statistics.

A shard is an index. It gathers what scoring needs, each embedding read once, and publishes
statistics that add up: scoring the candidates of several shards with the sum of their statistics
gives the answer of one index that holds all their videos.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.store.catalogue import VideoRecord

SAMPLE_VIDEOS = 256  # of a collection, on which background scores are measured


@dataclass(frozen=True, eq=False)
class GatherRequest:
    """What a shard should gather.

    Attributes:
        embeddings: `(E, D)` float32, L2-normalised; each finds its own nearest videos.
        level: `video` compares whole videos, `moment` the best segment of each.
        num_videos: nearest videos to gather for each embedding.
        stems: a text that has any of them matches.
        optional_stems: add to the score of a text that matches.
        excluded_stems: a text that has one, or whose video's own texts do, does not match.
        num_texts: best-scoring texts to gather.
        terms: statistics of all these stems in the whole collection.
        where: only videos that pass this filter, see `indexing.filters`; None for all.
        ids: public ids of videos to gather in any case.
        num_frames: kept frame embeddings to read of each video; 0 for none.
    """

    embeddings: np.ndarray
    level: str
    num_videos: int
    stems: Sequence[str] = ()
    optional_stems: Sequence[str] = ()
    excluded_stems: Sequence[str] = ()
    num_texts: int = 0
    terms: Mapping[str, TermStatistics] = field(default_factory=dict)
    where: str | None = None
    ids: Sequence[str] = ()
    num_frames: int = 0


@dataclass(frozen=True, eq=False)
class CandidateVideo:
    """A video with all that scoring needs of it.

    Attributes:
        record: its entry in the catalogue.
        spans: `(S, 2)`, start and end seconds of its segments.
        embeddings: `(1 + S, D)` float32, L2-normalised: of the whole video, then of its segments.
        frames: `(T, D)`, of evenly spread frames; T is 0 where none are kept or requested.
    """

    record: VideoRecord
    spans: np.ndarray
    embeddings: np.ndarray
    frames: np.ndarray

    @property
    def id(self) -> str:
        return self.record.public_id

    @property
    def content(self) -> str:
        """The same for copies of a file."""
        return self.record.signature.content_sha256

    def scores(self, embedding: np.ndarray) -> np.ndarray:
        """Returns `(1 + S,)`, the cosine similarity to the whole video and to each segment.

        The sum of a row does not depend on the rows beside it, as it would with BLAS: a video
        scores the same in whatever index it is.
        """
        return np.einsum("nd,d->n", self.embeddings, embedding)


@dataclass(frozen=True)
class TextMatch:
    """A text that has a word of the query.

    Attributes:
        id: public id of its video.
        level: `video` for the video's own texts, `moment` for a text at a time in it.
        counts: how often the text has each stem.
        length: its stems in all.
        source: `title`, `captions`, `tags` or `name`, or `ocr` or `speech`.
        text: the text, or the part that matches best, shortened.
        start_seconds, end_seconds: of a timed text; None for the video's own.
    """

    id: str
    level: str
    counts: Mapping[str, int]
    length: int
    source: str
    text: str
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """What a shard gathered, or several.

    Attributes:
        videos: by public id.
        nearest: for each embedding of the request, the ids of its nearest videos.
        texts: that match, in no order.
    """

    videos: dict[str, CandidateVideo]
    nearest: list[list[str]]
    texts: list[TextMatch]

    @classmethod
    def none(cls, request: GatherRequest) -> "CandidateSet":
        return cls({}, [[] for _ in request.embeddings], [])

    @classmethod
    def merge(cls, sets: Sequence["CandidateSet"]) -> "CandidateSet":
        """Puts together what the shards of a collection gathered for one request."""
        if len(sets) == 1:
            return sets[0]
        return cls(
            {id: video for each in sets for id, video in each.videos.items()},
            [list(chain(*parts)) for parts in zip(*(each.nearest for each in sets), strict=True)],
            [text for each in sets for text in each.texts],
        )


@dataclass(frozen=True, eq=False)
class VideoSample:
    """Videos that stand for a collection: those with the smallest public ids, which are hashes.

    Samples of shards add up: the smallest ids of all are among the smallest of each shard.

    Attributes:
        ids: N public ids, ascending.
        whole: `(N, D)` float32, the videos' embeddings.
        segments: `(S, D)`, the embeddings of their segments, video after video.
        counts: `(N,)` int, segments of each video, at least 1, S in all.
    """

    ids: list[str]
    whole: np.ndarray
    segments: np.ndarray
    counts: np.ndarray

    @classmethod
    def merge(cls, samples: Sequence["VideoSample"]) -> "VideoSample":
        ids = [id for sample in samples for id in sample.ids]
        kept = sorted(range(len(ids)), key=ids.__getitem__)[:SAMPLE_VIDEOS]
        of_videos = [
            part
            for sample in samples
            for part in np.split(sample.segments, np.cumsum(sample.counts)[:-1])
            if len(sample.counts)
        ]
        nothing = samples[0].segments[:0]
        return cls(
            [ids[number] for number in kept],
            np.concatenate([sample.whole for sample in samples])[kept],
            np.concatenate([nothing, *(of_videos[number] for number in kept)]),
            np.concatenate([sample.counts for sample in samples])[kept],
        )

    def best_scores(self, phrases: np.ndarray) -> np.ndarray:
        """`(M, D)` -> `(M, N)`, the score of each phrase's best segment in each video."""
        if not len(self.counts):
            return np.empty((len(phrases), 0), np.float32)
        return np.maximum.reduceat(
            phrases @ self.segments.T, np.cumsum(self.counts) - self.counts, axis=1
        )


@dataclass(frozen=True, eq=False)
class CollectionStatistics:
    """What scoring needs to know of a collection; `merge` adds up those of its shards.

    Attributes:
        num_videos: searchable videos.
        sample: of them.
        sentences: `(n, D)` float32, embeddings of everyday sentences; n may be 0.
        words: the words of titles, captions and tags, casefolded, with the number of videos that
            have each.
        tags: likewise.
        has_texts: whether the words of texts are indexed.
    """

    num_videos: int
    sample: VideoSample
    sentences: np.ndarray
    words: Mapping[str, int]
    tags: Mapping[str, int]
    has_texts: bool

    @classmethod
    def merge(cls, shards: Sequence["CollectionStatistics"]) -> "CollectionStatistics":
        if len(shards) == 1:
            return shards[0]
        return cls(
            sum(shard.num_videos for shard in shards),
            VideoSample.merge([shard.sample for shard in shards]),
            next((s.sentences for s in shards if len(s.sentences)), shards[0].sentences),
            _sum(shard.words for shard in shards),
            _sum(shard.tags for shard in shards),
            any(shard.has_texts for shard in shards),
        )


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return Counter(dict(sorted(total.items())))  # in an order that no division changes
