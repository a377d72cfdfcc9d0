"""A request to the shards of an index -> candidates, in two steps that may be calls to machines.

1. `ShardQuery.find` gives numbers and scores of what one shard has found (`ShardFindings`). Where
   FAISS has compressed vectors its scores are estimates: `choose_estimates` says which are worth
   reading, and `ShardQuery.rescore` compares those exactly.
2. `choose` takes the best of all shards, and `ShardQuery.read` reads the rows of a shard's own
   (`ShardChoice`): embeddings, catalogue entries and texts.

`gather` takes these steps with all shards of an index, whether they are in this process (`InTurn`)
or on other machines (`serving.cluster.shard_calls`). What goes from one step to the next is plain
values and arrays that pickle; a `ShardQuery` keeps nothing that the next call needs, so that
another machine may make a new one of the same `GatherRequest` for each call. All calls of one
search must be to the same generation: `video` numbers and addresses are those of one snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from reelseek.indexing.candidates import CandidateSet, GatherRequest
from reelseek.indexing.lexical.found import FoundTexts
from reelseek.indexing.vectors.level import Neighbours

# FAISS adds up the products of two vectors in another order than scoring does. Videos that score so
# close to the last that is chosen are chosen too, and scoring decides.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class ShardFindings:
    """What one shard has found for a request.

    Attributes:
        neighbours: for each embedding of the request, among which are its nearest videos.
        texts: the best of the shard, best first.
    """

    neighbours: list[Neighbours]
    texts: FoundTexts = field(default_factory=FoundTexts.none)

    @classmethod
    def none(cls, request: GatherRequest) -> "ShardFindings":
        return cls([Neighbours.none() for _ in request.embeddings])


@dataclass(frozen=True, eq=False)
class ShardChoice:
    """What is to be read from one shard.

    Attributes:
        videos: for each embedding of the request, `(n,)` int64 numbers of its nearest videos.
        texts: that match best.
    """

    videos: list[np.ndarray]
    texts: FoundTexts

    @property
    def is_empty(self) -> bool:
        return not (len(self.texts.videos) or any(map(len, self.videos)))


class ShardQuery(Protocol):
    """One request to one shard; see `indexing.shards.query`."""

    def find(self, *, vectors: bool = True) -> ShardFindings: ...

    def rescore(self, embedding: int, locations: np.ndarray) -> np.ndarray: ...

    def read(self, choice: ShardChoice) -> CandidateSet | None: ...


class ShardQueries(Protocol):
    """One request to all shards of an index. Arguments and results are in the order of these."""

    def find(self, is_near: Sequence[bool]) -> list[ShardFindings]:
        """Finds in each shard; looks for vectors only in those that are near."""
        ...

    def rescore(self, locations: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        """Compares exactly, in each shard for each embedding, vectors at `(n, 2)` locations."""
        ...

    def read(self, choices: Sequence[ShardChoice]) -> list[CandidateSet | None]:
        """Reads each shard's choice; None where some of it has been deleted since."""
        ...


class InTurn:
    """A request to shards of this process, one after the other."""

    def __init__(self, shards: Sequence[ShardQuery], request: GatherRequest) -> None:
        self._shards = shards
        self._request = request

    def find(self, is_near: Sequence[bool]) -> list[ShardFindings]:
        return [
            shard.find(vectors=near)
            if near or self._request.num_texts
            else ShardFindings.none(self._request)
            for shard, near in zip(self._shards, is_near, strict=True)
        ]

    def rescore(self, locations: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
        return [
            [
                shard.rescore(number, own) if len(own) else np.empty(0, np.float32)
                for number, own in enumerate(of_shard)
            ]
            for shard, of_shard in zip(self._shards, locations, strict=True)
        ]

    def read(self, choices: Sequence[ShardChoice]) -> list[CandidateSet | None]:
        return [
            shard.read(choice)
            if self._request.ids or not choice.is_empty
            else CandidateSet.none(self._request)
            for shard, choice in zip(self._shards, choices, strict=True)
        ]


def gather(
    shards: ShardQueries, request: GatherRequest, *, is_near: Sequence[bool]
) -> CandidateSet:
    """Gathers the nearest videos of each embedding and the best texts of all shards together.

    Args:
        is_near: whether to ask each shard for nearest videos (`indexing.shards.clusters`); all are
            asked for texts.

    Raises:
        ValueError: the filter is wrong, or a file is damaged.
    """
    while True:  # until nothing chosen has been deleted meanwhile
        found = shards.find(is_near)
        _rescore(shards, found, choose_estimates(found, request))
        read = shards.read(choose(found, request))
        complete = [candidates for candidates in read if candidates is not None]
        if len(complete) == len(read):
            return CandidateSet.merge(complete)


def _rescore(
    shards: ShardQueries,
    found: Sequence[ShardFindings],
    chosen: Sequence[Sequence[np.ndarray]],
) -> None:
    """Makes estimates exact.

    Args:
        chosen: of `choose_estimates`.
    """
    if not any(len(positions) for of_embedding in chosen for positions in of_embedding):
        return
    locations = [
        [
            findings.neighbours[number].locations[of_embedding[position]]
            for number, of_embedding in enumerate(chosen)
        ]
        for position, findings in enumerate(found)
    ]
    for position, (findings, scores) in enumerate(
        zip(found, shards.rescore(locations), strict=True)
    ):
        for number, of_embedding in enumerate(chosen):
            positions = of_embedding[position]
            if len(positions):
                own = findings.neighbours[number]
                findings.neighbours[number] = rescored(own, positions, scores[number])


def choose_estimates(
    found: Sequence[ShardFindings], request: GatherRequest
) -> list[list[np.ndarray]]:
    """Chooses estimated scores to be made exact: those of the vectors among which the nearest of
    all shards must be looked for.

    Returns:
        For each embedding, for each shard, `(n,)` positions in its `Neighbours`.
    """
    return [
        _best_estimates([each.neighbours[number] for each in found], num=request.num_videos)
        for number in range(len(request.embeddings))
    ]


def rescored(own: Neighbours, positions: np.ndarray, scores: np.ndarray) -> Neighbours:
    """Returns a shard's neighbours with exact scores at these positions, without the estimates of
    all others."""
    every_score, is_estimate = own.scores.copy(), own.is_estimate.copy()
    every_score[positions], is_estimate[positions] = scores, False
    exact = replace(own, scores=every_score, is_estimate=is_estimate)
    return exact.take(np.flatnonzero(~is_estimate))


def choose(found: Sequence[ShardFindings], request: GatherRequest) -> list[ShardChoice]:
    """Chooses the nearest videos of each embedding and the best texts of all shards.

    Args:
        found: of each shard; estimates that are left are not looked at.

    Returns:
        What is to be read from each shard, which may be nothing.
    """
    videos = [
        _nearest_videos([each.neighbours[number] for each in found], num=request.num_videos)
        for number in range(len(request.embeddings))
    ]
    texts = _best_texts([each.texts for each in found], num=request.num_texts)
    return [
        ShardChoice([of_embedding[position] for of_embedding in videos], texts[position])
        for position in range(len(found))
    ]


def _best_estimates(shards: Sequence[Neighbours], *, num: int) -> list[np.ndarray]:
    every = Neighbours.concatenate(shards)
    if not every.is_estimate.any():
        return [np.empty(0, np.int64)] * len(shards)
    owners = _owners([len(own.videos) for own in shards])
    estimates = np.flatnonzero(every.is_estimate)
    order = estimates[np.argsort(-every.scores[estimates], kind="stable")]
    # As many as one index would look at, and on to as many videos as are wanted.
    videos = every.videos * len(shards) + owners
    _, first = np.unique(videos[order], return_index=True)
    num_chosen = max(every.num_candidates, 1 + int(np.sort(first)[:num][-1]))
    return _by_shard(order[:num_chosen], owners, shards)


def _nearest_videos(shards: Sequence[Neighbours], *, num: int) -> list[np.ndarray]:
    """The numbers of each shard's videos that are among the nearest of all."""
    best = [_best_of_videos(own.take(np.flatnonzero(~own.is_estimate))) for own in shards]
    scores = np.concatenate([own.scores for own in best])
    if len(scores) > num:
        lowest = np.partition(scores, -num)[-num] if num else np.inf
        best = [own.take(np.flatnonzero(own.scores >= lowest - _ROUNDING)) for own in best]
    return [own.videos for own in best]


def _best_of_videos(own: Neighbours) -> Neighbours:
    """The best vector of each video, best first."""
    order = np.argsort(-own.scores, kind="stable")
    _, first = np.unique(own.videos[order], return_index=True)
    return own.take(order[np.sort(first)])


def _best_texts(shards: Sequence[FoundTexts], *, num: int) -> list[FoundTexts]:
    """Each shard's texts that are among the best of all."""
    owners = _owners([len(own.videos) for own in shards])
    chosen = FoundTexts.concatenate(shards).best_first()[:num]
    return [
        own.take(positions)
        for own, positions in zip(shards, _by_shard(chosen, owners, shards), strict=True)
    ]


def _owners(counts: Sequence[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def _by_shard(
    positions: np.ndarray, owners: np.ndarray, shards: Sequence[Neighbours | FoundTexts]
) -> list[np.ndarray]:
    """Positions in all shards together -> those in each, in the same order."""
    starts = np.cumsum([0, *(len(own.videos) for own in shards)])
    of_chosen = owners[positions]
    return [positions[of_chosen == number] - starts[number] for number in range(len(shards))]
