"""Candidates and the statistics of their collection -> matches, scored, fused and explained.

A pure function: nothing here reads an index. The candidates of several shards with the sum of their
statistics give what one index that holds all their videos gives.

Frames are compared by their embeddings, texts (captions, titles, tags, names, what was read or
heard) by their words. Reciprocal ranks put both into one order. A match loses score for showing
what the query excludes; steps are looked for in their order.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelseek.indexing.candidates import CandidateSet, CandidateVideo, CollectionStatistics
from reelseek.ranking.background import BackgroundScores
from reelseek.ranking.composition import penalize_negatives
from reelseek.ranking.confidence import DEFAULT_CALIBRATION, Calibration
from reelseek.ranking.evidence import Evidence
from reelseek.ranking.fusion import fuse_reciprocal_ranks
from reelseek.ranking.learning.candidates import describe_candidates
from reelseek.ranking.learning.ranker import LearnedRanker
from reelseek.ranking.request import LEXICAL, VISUAL, Request
from reelseek.ranking.temporal import align_steps_in_videos
from reelseek.ranking.texts import (
    ScoredText,
    Terms,
    find_texts,
    rank_matches,
    texts_beside_frames,
)
from reelseek.ranking.token_matching.matching import TokenMatchingWeights
from reelseek.ranking.token_matching.reranker import rerank
from reelseek.ranking.visual import Match, embedding_at, moment_matches, nearest, whole_match
from reelseek.text.query.function_words import content_words

WITHOUT, TEMPORAL, LEARNED = "without", "temporal_order", "learned"
POOL = 50  # candidates of each source, at least
RANKER_TEXTS = 1000  # best texts among which a ranker looks for those of its candidates

_LIKELY_FRACTION = 0.1  # of all videos, that look most like the query; of the pool at most
_WEIGHTS = {LEXICAL: 1.2}  # a text with all the words goes before the video that looks most like it
# A match that is hardly probable stands below all that are sure, unless a text has most words.
_HARDLY, _SURELY = 0.1, 0.5  # probabilities of a match
_SURE_FRACTION = 2 / 3
_MIN_JUDGED = 20  # matches whose probabilities are worked out first
_NUM_COMPARED = 32  # background queries that tell which other matches may be sure
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Collected:
    """The statistics that one request is scored with.

    Attributes:
        statistics: of the collection.
        background: scores in its sample.
        terms: the request's stems, with their statistics.
    """

    statistics: CollectionStatistics
    background: BackgroundScores
    terms: Terms


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores candidates.

    Attributes:
        weights: how much a rank in each source counts, 1 for those not named.
        calibration: gives the probability that a match is right.
        ranker: orders whole videos, in place of reciprocal ranks.
        token_matching: reorders the best whole videos by their frames.
    """

    weights: dict[str, float] | None = None
    calibration: Calibration = DEFAULT_CALIBRATION
    ranker: LearnedRanker | None = None
    token_matching: TokenMatchingWeights | None = None

    def score(
        self,
        request: Request,
        candidates: CandidateSet,
        collection: Collected,
        *,
        k: int,
        num: int,
        num_gathered: tuple[int, int],
        level: str,
    ) -> tuple[list[Match], bool]:
        """Finds the best matches.

        Args:
            k: matches that will be shown; more come back where more were found.
            num: matches of each source to look at, at least k.
            num_gathered: nearest videos of each embedding and best texts that were gathered.
            level: `video` or `moment`.

        Returns:
            Matches, best first, the first k of them with their probability; and whether gathering
            more could not change them.
        """
        scoring = _Scoring(self, request, candidates, collection, k, num, num_gathered, level)
        matches = scoring.in_order() if len(request.steps) else scoring.by_sources()
        if self.ranker is not None and level == "video" and not len(request.steps):
            matches = scoring.by_ranker(matches)
        return [*scoring.with_confidence(matches[:k]), *matches[k:]], scoring.is_complete

    def describe(
        self,
        request: Request,
        videos: Sequence[CandidateVideo],
        candidates: CandidateSet,
        collection: Collected,
    ) -> np.ndarray:
        """Returns `(n, F)` float32, what a ranker looks at of videos as candidates of one query."""
        background = collection.background.background("video")
        confidence = None
        if background is not None and videos:
            whole = np.stack([video.embeddings[0] for video in videos])
            features = background.features(request.query_embedding, whole)
            confidence = self.calibration.probability(features)
        texts = []
        if LEXICAL in request.sources and content_words(request.words):
            texts = rank_matches(
                candidates.texts,
                candidates.videos,
                collection.terms,
                num=RANKER_TEXTS,
                level="video",
                with_optional=False,
            )
        return describe_candidates(
            videos,
            query_embedding=request.query_embedding,
            texts=texts,
            names=request.names if collection.statistics.has_texts else (),
            confidence=confidence,
        )


class _Scoring:
    """The scoring of one request."""

    def __init__(
        self,
        scorer: Scorer,
        request: Request,
        candidates: CandidateSet,
        collection: Collected,
        k: int,
        num: int,
        num_gathered: tuple[int, int],
        level: str,
    ) -> None:
        self._scorer = scorer
        self._request = request
        self._candidates = candidates
        self._collection = collection
        self._num_videos, self._num_texts = num_gathered
        self._k = k
        self._num = num
        self._level = level
        self._excluded = list(request.excluded)  # whose scores are kept by identity
        self._known_scores: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        self.is_complete = True

    def by_sources(self) -> list[Match]:
        """Matches of all sources, fused."""
        request = self._request
        texts = self._texts()
        visual: list[Match] = []
        if VISUAL in request.sources:
            visual = self._nearest(request.query_embedding, level=self._level)
            if self._scorer.token_matching and self._level == "video" and len(request.tokens):
                visual = rerank(visual, np.asarray(request.tokens), self._scorer.token_matching)
            visual = self._penalized(visual)
            visual.sort(key=lambda match: -match.score)
            visual = [
                match._replace(evidence=(Evidence(VISUAL, rank, match.score), *match.evidence))
                for rank, match in enumerate(visual, start=1)
            ]
            num_likely = int(_LIKELY_FRACTION * self._collection.statistics.num_videos)
            likely = {match.video.content for match in visual[: min(POOL, num_likely)]}
            videos = self._candidates.videos.values()
            texts = texts_beside_frames(texts, {v.id for v in videos if v.content in likely})
        return self._fused(visual, texts) if texts else visual

    def in_order(self) -> list[Match]:
        """Videos in which the steps follow each other, and the stretch that holds them all."""
        request = self._request
        videos: dict[str, CandidateVideo] = {}
        each_step = list(request.steps)
        for step in (request.query_embedding, *each_step):
            for match in self._nearest(step, level="moment"):
                videos.setdefault(match.video.content, match.video)
        if not videos:
            return []
        steps = np.asarray(request.steps)
        usual = self._collection.background.of_phrases(steps).mean(axis=1, keepdims=True)
        of_steps = [self._scores(step) for step in each_step]
        scores = [
            np.concatenate([scores[video.id][1:] for video in videos.values()])
            for scores in of_steps
        ]
        aligned = align_steps_in_videos(
            np.stack(scores) - usual,
            np.concatenate([video.spans for video in videos.values()]),
            counts=[len(video.spans) for video in videos.values()],
        )
        found = []
        for video, steps_in in zip(videos.values(), aligned, strict=True):
            if steps_in is None:
                continue
            start, end = float(steps_in.spans[0, 0]), float(steps_in.spans[-1, 1])
            if self._level == "video":
                start, end = 0.0, video.record.duration_seconds
            at = ", ".join(f"{first:.0f}-{last:.0f} s" for first, last in steps_in.spans)
            evidence = Evidence(TEMPORAL, score=steps_in.ordered, detail=at)
            score, best = steps_in.score + float(usual.mean()), float(steps_in.spans[0].mean())
            found.append(Match(video, score, start, end, best, (evidence,)))
        return sorted(found, key=lambda match: (-match.score, match.video.id))

    def by_ranker(self, matches: list[Match]) -> list[Match]:
        """Matches in the order of the learned ranker."""
        ranker = self._scorer.ranker
        assert ranker is not None
        if not matches:
            return matches
        features = self._scorer.describe(
            self._request, [match.video for match in matches], self._candidates, self._collection
        )
        judged = [
            match.with_evidence(Evidence(LEARNED, score=score))._replace(score=score)
            for match, score in zip(matches, ranker.score(features).tolist(), strict=True)
        ]
        return sorted(judged, key=lambda match: -match.score)

    def with_confidence(self, matches: list[Match]) -> list[Match]:
        """Matches with the probability that each is right."""
        background = self._collection.background.background(self._level)
        if background is None or all(match.confidence is not None for match in matches):
            return matches
        items = np.stack([embedding_at(match, self._level) for match in matches])
        features = background.features(self._request.query_embedding, items)
        probabilities = self._scorer.calibration.probability(features).tolist()
        return [
            match._replace(confidence=p) for match, p in zip(matches, probabilities, strict=True)
        ]

    def _may_be_sure(self, matches: Sequence[Match]) -> bool:
        """Whether any match may be sure, by no less than its probability."""
        background = self._collection.background.background(self._level)
        calibration = self._scorer.calibration
        if background is None or calibration.weights[1] < 0:
            return True
        items = np.stack([embedding_at(match, self._level) for match in matches])
        features = background.features(
            self._request.query_embedding, items, num_compared=_NUM_COMPARED
        )
        return bool(calibration.probability(features).max() >= _SURELY - _ROUNDING)

    def _scores(self, embedding: np.ndarray) -> dict[str, np.ndarray]:
        """Of each video and its segments; the same embedding is compared once."""
        for known, scores in self._known_scores:
            if known is embedding:
                return scores
        scores = {id: video.scores(embedding) for id, video in self._candidates.videos.items()}
        self._known_scores.append((embedding, scores))
        return scores

    def _nearest(self, embedding: np.ndarray, *, level: str) -> list[Match]:
        matches, is_complete = nearest(
            self._candidates.videos.values(),
            self._scores(embedding),
            num=self._num,
            num_gathered=self._num_videos,
            level=level,
        )
        self.is_complete &= is_complete
        return matches

    def _texts(self) -> list[ScoredText]:
        if not self._candidates.texts:
            return []
        ranked = rank_matches(
            self._candidates.texts,
            self._candidates.videos,
            self._collection.terms,
            num=self._num_texts,
            level=self._level,
        )
        self.is_complete &= (
            len(ranked) >= self._num or len(self._candidates.texts) < self._num_texts
        )
        return find_texts(self._request, ranked[: self._num], self._collection.statistics)

    def _fused(self, visual: list[Match], texts: Sequence[ScoredText]) -> list[Match]:
        """Both rankings in one. A moment that a frame and a text speak for is one match."""
        visual_keys = [match.dedup_key for match in visual]
        shown = dict(zip(visual_keys, visual, strict=True))
        found = self._penalized(self._matches_of(texts, shown))
        found.sort(key=_shows_excluded)
        keys = [match.dedup_key for match in found]
        fused = fuse_reciprocal_ranks(
            {VISUAL: visual_keys, LEXICAL: keys},
            weights=_WEIGHTS if self._scorer.weights is None else self._scorer.weights,
            scores={
                LEXICAL: [0.0 if _shows_excluded(each) else _text_score(each) for each in found]
            },
        )
        evidence: dict[Any, list[Evidence]] = {}
        for key, match in zip((*visual_keys, *keys), (*visual, *found), strict=True):
            known = evidence.setdefault(key, [])
            sources = {each.source for each in known}
            known += [each for each in match.evidence if each.source not in sources]
        # A text that was read or heard tells the second better than the frames do.
        by_key: dict[Any, Match] = shown | dict(zip(reversed(keys), reversed(found), strict=True))
        return self._sure_first(
            [
                by_key[key]._replace(score=each.score, evidence=tuple(evidence[key]))
                for each in fused
                for key in [each.item]
            ]
        )

    def _matches_of(self, texts: Sequence[ScoredText], shown: Collection[tuple]) -> list[Match]:
        """Texts as matches, scored by their frames, in the texts' order.

        Args:
            shown: keys of the matches that frames gave.
        """
        of_query = self._scores(self._request.query_embedding) if texts else {}
        ids = dict.fromkeys(text.match.id for text in texts)
        scored = [(self._candidates.videos[id], of_query[id]) for id in ids]
        if self._level == "video":
            found = [[whole_match(video, scores)] for video, scores in scored]
        else:
            is_timed = any(text.match.start_seconds is not None for text in texts)
            found = moment_matches(scored, only_best=not is_timed)
        of_video = dict(zip(ids, found, strict=True))
        matches = []
        for rank, text in enumerate(texts, start=1):
            detail = f"{text.match.source}: {text.match.text}"
            evidence = Evidence(LEXICAL, rank, text.score, detail, fraction=text.coverage)
            match = _spoken_of(text, of_video[text.match.id], shown, self._level)
            matches.append(match._replace(evidence=(evidence,)))
        return matches

    def _sure_first(self, matches: list[Match]) -> list[Match]:
        """Moves matches that are hardly probable, and whose texts do not answer the query, behind
        all that are sure. Only the first k may be in this order, where k is less than a pool."""
        if not matches or all(map(_is_answer, matches)):
            return matches
        # A probability costs more than all else here, and those of the first mostly suffice.
        num_first = max(_MIN_JUDGED, 2 * self._k)
        if self._k < POOL and self._scorer.ranker is None and num_first < len(matches):
            moved, num_sure = _hardly_probable_last(self.with_confidence(matches[:num_first]))
            others = matches[num_first:]
            if num_sure >= self._k or not self._may_be_sure(others):
                return [*moved, *others]
        return _hardly_probable_last(self.with_confidence(matches))[0]

    def _penalized(self, matches: list[Match]) -> list[Match]:
        """Matches with a lower score where they show what the query excludes."""
        request, background = self._request, self._collection.background
        if not len(request.excluded) or not matches:
            return list(matches)
        negatives = np.asarray(request.excluded)
        scores = penalize_negatives(
            np.array([match.score for match in matches]),
            np.array([self._best_inside(match) for match in matches]).T,
            positive_background=background.of_phrases(request.query_embedding[None])[0],
            negative_background=background.of_phrases(negatives),
        )
        return [
            (
                match.with_evidence(Evidence(WITHOUT, contribution=score - match.score))
                if score < match.score
                else match
            )._replace(score=score)
            for match, score in zip(matches, scores.tolist(), strict=True)
        ]

    def _best_inside(self, match: Match) -> np.ndarray:
        """`(M,)`, the score of each excluded phrase's best segment in a match's seconds."""
        spans = match.video.spans
        inside: np.ndarray = np.ones(len(spans), dtype=bool)
        if self._level == "moment":
            inside = (spans[:, 0] < match.end_seconds) & (spans[:, 1] > match.start_seconds)
        scores = np.stack([self._scores(phrase)[match.video.id][1:] for phrase in self._excluded])
        return scores[:, inside if inside.any() else slice(None)].max(axis=1)


def _hardly_probable_last(judged: Sequence[Match]) -> tuple[list[Match], int]:
    """Moves matches that are hardly probable behind the last sure one; and how many are before
    them then, which matches that follow do not change."""
    sure = [number for number, match in enumerate(judged) if (match.confidence or 0) >= _SURELY]
    last = sure[-1] if sure else -1
    before, after = judged[: last + 1], judged[last + 1 :]
    unsure = [m for m in before if (m.confidence or 0) < _HARDLY and not _is_answer(m)]
    keys = {match.dedup_key for match in unsure}
    kept = [match for match in before if match.dedup_key not in keys]
    return [*kept, *unsure, *after], len(kept)


def _spoken_of(
    text: ScoredText, of_video: Sequence[Match], shown: Collection[tuple], level: str
) -> Match:
    """The video, or the moment of it, that a text speaks of: a timed one of its own seconds."""
    start, end = text.match.start_seconds, text.match.end_seconds
    if start is None or end is None:
        return of_video[0]
    middle = (start + end) / 2
    if level == "video":
        return of_video[0]._replace(best_seconds=middle)
    around = [match for match in of_video if match.start_seconds <= middle < match.end_seconds]
    match = (around or of_video)[0]
    if match.dedup_key not in shown:  # no frame speaks for the rest of that moment
        match = match._replace(start_seconds=start, end_seconds=end)
    return match._replace(best_seconds=middle)


def _shows_excluded(match: Match) -> bool:
    return any(each.source == WITHOUT for each in match.evidence)


def _text_score(match: Match) -> float:
    return next(each.score or 0.0 for each in match.evidence if each.source == LEXICAL)


def _is_answer(match: Match) -> bool:
    """Whether a text has most of the query's words."""
    return any((each.fraction or 0.0) >= _SURE_FRACTION for each in match.evidence)
