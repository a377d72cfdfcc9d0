"""What is asked and an index -> hits: candidates of each source, fused, reranked and explained.

Pictures are searched by their embeddings, texts (captions, titles, tags, names, what was read or
heard) by their words. Both give candidates, which reciprocal ranks put into one order. What must
not be shown costs a candidate as much as it shows of it; events are looked for in their order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reelseek.indexing.hits import LEVELS, SearchHit
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.snapshot import VideoSegments
from reelseek.ranking.background import BackgroundScores
from reelseek.ranking.composition import penalize_negatives
from reelseek.ranking.confidence import DEFAULT_CALIBRATION, Calibration
from reelseek.ranking.evidence import Evidence
from reelseek.ranking.fusion import fuse_reciprocal_ranks
from reelseek.ranking.learning.candidates import describe_candidates
from reelseek.ranking.learning.ranker import LearnedRanker
from reelseek.ranking.request import LEXICAL, VISUAL, Request
from reelseek.ranking.temporal import align_steps_in_videos
from reelseek.ranking.texts import FoundText, find_texts, hits_from_texts, texts_beside_frames
from reelseek.ranking.token_matching.reranker import Reranker
from reelseek.text.query.function_words import content_words

WITHOUT, TEMPORAL, LEARNED = "without", "temporal_order", "learned"

_POOL = 50  # candidates among pictures, at least
_LIKELY_FRACTION = 0.1  # of all videos, that look most like what is asked; of the pool at most
_WEIGHTS = {LEXICAL: 1.2}  # what has all the words goes before what looks most like it
_ANSWERING_FRACTION = 0.5  # of what is asked, in a text, that answers it
# A hit that hardly matches stands below all that surely do, unless it has most of what is asked.
_HARDLY, _SURELY = 0.1, 0.5  # probabilities of a match
_SURE_FRACTION = 2 / 3


class Retriever:
    """Answers requests from an index.

    Args:
        reader: of the index.
        weights: how much a rank in each source counts, 1 for those not named; None for what was
            found to be good (`benchmarks/fusion.py`).
        calibration: says how probable it is that a hit matches.
        ranker: orders whole videos, in place of reciprocal ranks.
        reranker: reorders the best whole videos that pictures find.
    """

    def __init__(
        self,
        reader: IndexReader,
        *,
        weights: dict[str, float] | None = None,
        calibration: Calibration = DEFAULT_CALIBRATION,
        ranker: LearnedRanker | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        self._reader = reader
        self._weights = _WEIGHTS if weights is None else weights
        self._calibration = calibration
        self._ranker = ranker
        self._reranker = reranker
        self.usual = BackgroundScores(reader)

    def search(
        self, request: Request, *, k: int, level: str, min_confidence: float = 0.0
    ) -> list[SearchHit]:
        """The best hits, each with the evidence for it, and how probable it is that it matches.

        Args:
            k: hits to return, at least 1; fewer come back where there are fewer.
            level: `video` or `moment`.
            min_confidence: hits that are less probable to match are left out, but for those whose
                texts have at least half of what is asked; 0 to 1.

        Raises:
            ValueError: k, level or the filter is wrong, or a file of the index is damaged.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence={min_confidence}: must be 0 to 1")
        if len(request.steps):
            hits = self._in_order(request, k=k, level=level)
        else:
            hits = self._by_sources(request, k=k, level=level)
            if self._ranker is not None and level == "video":
                hits = self._learned_order(request, hits)
        hits = self._with_confidence(request, hits[:k], level)
        hits = [
            hit
            for hit in hits
            if hit.confidence is None
            or hit.confidence >= min_confidence
            or any((each.fraction or 0.0) >= _ANSWERING_FRACTION for each in hit.evidence)
        ]
        return [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]

    def warm_up(self) -> None:
        """Measures what everyday sentences score, which the first search would wait for."""
        for level in LEVELS:
            self.usual.background(level)

    def describe(self, request: Request, video_ids: Sequence[int]) -> np.ndarray:
        """`(n, F)` float32, what a ranker looks at of each of these videos, as candidates of one
        query."""
        background = self.usual.background("video")
        calibration = self._calibration

        def confidence(whole: np.ndarray) -> np.ndarray:
            assert background is not None
            return calibration.probability(background.features(request.query_embedding, whole))

        return describe_candidates(
            self._reader,
            video_ids,
            query_embedding=request.query_embedding,
            words=content_words(request.words) if LEXICAL in request.sources else (),
            names=request.names,
            confidence=None if background is None else confidence,
        )

    def candidates(self, request: Request) -> list[int]:
        """The videos that a ranker puts into order in a search for ten."""
        # A search with a ranker looks at as many pictures as this, and adds what texts find.
        return [hit.video_id for hit in self._by_sources(request, k=_POOL, level="video")]

    def order(self, request: Request, video_ids: Sequence[int]) -> list[int]:
        """These videos in the order in which a search has them; those that it does not find last.

        For measuring: what would come first is not asked for alone, but all that there is.
        """
        found = self._by_sources(request, k=max(_POOL, 10 * len(video_ids)), level="video")
        names = self._reader.records(video_ids)
        dedup_keys: dict[str, int] = {}
        for rank, hit in enumerate(found):
            dedup_keys |= dict.fromkeys([hit.id, *(copy.id for copy in hit.also_as)], rank)

        def dedup_key(video_id: int) -> int:
            name = names[video_id].public_id if video_id in names else ""
            return dedup_keys.get(name, len(found))

        return sorted(video_ids, key=dedup_key)

    def _learned_order(self, request: Request, hits: list[SearchHit]) -> list[SearchHit]:
        assert self._ranker is not None
        if not hits:
            return hits
        features = self.describe(request, [hit.video_id for hit in hits])
        scores = self._ranker.score(features).tolist()
        judged = [
            replace(hit, score=score, evidence=(*hit.evidence, Evidence(LEARNED, score=score)))
            for hit, score in zip(hits, scores, strict=True)
        ]
        return sorted(judged, key=lambda hit: -hit.score)

    def _with_confidence(
        self, request: Request, hits: list[SearchHit], level: str
    ) -> list[SearchHit]:
        if all(hit.confidence is not None for hit in hits):  # none, or judged when they were fused
            return hits
        background = self.usual.background(level)
        if background is None:
            return hits
        found: dict[Any, np.ndarray]
        if level == "video":
            keys: list[Any] = [hit.video_id for hit in hits]
            found = self._reader.whole(keys)
        else:
            keys = [(hit.video_id, hit.best_seconds) for hit in hits]
            found = self._reader.segments_at(keys)
        hits = [hit for hit, key in zip(hits, keys, strict=True) if key in found]
        if not hits:
            return hits
        items = np.stack([found[key] for key in keys if key in found])
        features = background.features(request.query_embedding, items)
        probabilities = self._calibration.probability(features).tolist()
        return [replace(hit, confidence=p) for hit, p in zip(hits, probabilities, strict=True)]

    def _by_sources(self, request: Request, *, k: int, level: str) -> list[SearchHit]:
        texts = find_texts(self._reader, request, k=k, level=level)
        visual: list[SearchHit] = []
        if VISUAL in request.sources:
            reranks = self._reranker if level == "video" and len(request.tokens) else None
            needs_more = bool(texts) or len(request.excluded) or self._ranker or reranks
            visual = self._reader.search(
                request.query_embedding,
                k=max(k, _POOL) if needs_more else k,
                level=level,
                where=request.where,
            )
            if reranks:
                visual = reranks.rerank(visual, np.asarray(request.tokens))
            judged = self._judged(request, visual, level=level)
            judged.sort(key=lambda hit: -hit.score)
            visual = _with_evidence(VISUAL, judged)
            num_likely = min(_POOL, int(_LIKELY_FRACTION * self._reader.manifest.num_videos))
            texts = texts_beside_frames(texts, {hit.video_id for hit in visual[:num_likely]})
        if not texts:
            return visual
        return self._fused(request, visual, texts, level=level)

    def _fused(
        self,
        request: Request,
        visual: list[SearchHit],
        texts: list[FoundText],
        *,
        level: str,
    ) -> list[SearchHit]:
        """Both rankings in one. A moment that a picture and a text speak for is one hit."""
        by_dedup_key = {hit.dedup_key: hit for hit in visual}
        found = hits_from_texts(self._reader, request, texts, shown=by_dedup_key, level=level)
        found = self._judged(request, found, level=level)
        found.sort(key=_shows_excluded)
        fused = fuse_reciprocal_ranks(
            {VISUAL: [hit.dedup_key for hit in visual], LEXICAL: [hit.dedup_key for hit in found]},
            weights=self._weights,
            scores={LEXICAL: [0.0 if _shows_excluded(hit) else _text_score(hit) for hit in found]},
        )
        evidence: dict[tuple, list[Evidence]] = {}
        for hit in (*visual, *found):
            known = evidence.setdefault(hit.dedup_key, [])
            known += [each for each in hit.evidence if each.source not in {e.source for e in known}]
        # What was read or heard tells the second better than the picture does.
        by_dedup_key |= {hit.dedup_key: hit for hit in reversed(found)}
        hits = []
        for each in fused:
            dedup_key: Any = each.item
            hits.append(
                replace(
                    by_dedup_key[dedup_key], score=each.score, evidence=tuple(evidence[dedup_key])
                )
            )
        return self._sure_first(request, hits, level)

    def _sure_first(self, request: Request, hits: list[SearchHit], level: str) -> list[SearchHit]:
        """Hits in their order, but that those which hardly match, and whose texts do not answer
        what is asked, come after all that surely match."""
        if not len(hits) or all(map(_is_answer, hits)):
            return hits
        judged = self._with_confidence(request, hits, level)
        sure = [number for number, hit in enumerate(judged) if (hit.confidence or 0) >= _SURELY]
        last = sure[-1] if sure else -1
        before, after = judged[: last + 1], judged[last + 1 :]
        unsure = [hit for hit in before if (hit.confidence or 0) < _HARDLY and not _is_answer(hit)]
        dedup_keys = {hit.dedup_key for hit in unsure}
        return [*(hit for hit in before if hit.dedup_key not in dedup_keys), *unsure, *after]

    def _judged(self, request: Request, hits: list[SearchHit], *, level: str) -> list[SearchHit]:
        """Hits with a lower score where they show what should not be shown."""
        if not len(request.excluded) or not hits:
            return list(hits)
        negatives = np.asarray(request.excluded)
        videos = self._segments(hits)
        hits = [hit for hit in hits if hit.video_id in videos]
        if not hits:
            return []
        scores = penalize_negatives(
            np.array([hit.score for hit in hits]),
            np.array([_best_inside(videos[hit.video_id], negatives, hit, level) for hit in hits]).T,
            positive_background=self.usual.of_phrases(request.query_embedding[None])[0],
            negative_background=self.usual.of_phrases(negatives),
        )
        judged = []
        for hit, score in zip(hits, scores.tolist(), strict=True):
            evidence = hit.evidence
            if score < hit.score:
                evidence += (Evidence(WITHOUT, contribution=score - hit.score),)
            judged.append(replace(hit, score=score, evidence=evidence))
        return judged

    def _in_order(self, request: Request, *, k: int, level: str) -> list[SearchHit]:
        """Videos in which the events follow each other, and the stretch that holds them all."""
        candidates: dict[str, SearchHit] = {}
        for step in (request.query_embedding, *request.steps):
            for hit in self._reader.search(
                step, k=max(k, _POOL), level="moment", where=request.where
            ):
                candidates.setdefault(hit.content, hit)
        videos = self._segments(candidates.values())
        hits = [hit for hit in candidates.values() if hit.video_id in videos]
        if not hits:
            return []
        steps = np.asarray(request.steps)
        usual = self.usual.of_phrases(steps).mean(axis=1, keepdims=True)
        of_each = [videos[hit.video_id] for hit in hits]
        matches = align_steps_in_videos(
            steps @ np.concatenate([video.embeddings for video in of_each]).T - usual,
            np.concatenate([video.spans for video in of_each]),
            counts=[len(video.spans) for video in of_each],
        )
        found = []
        for hit, match in zip(hits, matches, strict=True):
            if match is None:
                continue
            start, end = float(match.spans[0, 0]), float(match.spans[-1, 1])
            at = ", ".join(f"{first:.0f}-{last:.0f} s" for first, last in match.spans)
            found.append(
                replace(
                    hit,
                    score=match.score + float(usual.mean()),
                    start_seconds=0.0 if level == "video" else start,
                    end_seconds=hit.duration_seconds if level == "video" else end,
                    best_seconds=float(match.spans[0].mean()),
                    evidence=(Evidence(TEMPORAL, score=match.ordered, detail=at),),
                )
            )
        return sorted(found, key=lambda hit: -hit.score)

    def _segments(self, hits: Iterable[SearchHit]) -> dict[int, VideoSegments]:
        """Of the hits' videos, without those that have been deleted since."""
        return self._reader.segments(sorted({hit.video_id for hit in hits}))


def _with_evidence(source: str, hits: list[SearchHit]) -> list[SearchHit]:
    return [
        replace(hit, evidence=(Evidence(source, rank, hit.score), *hit.evidence))
        for rank, hit in enumerate(hits, start=1)
    ]


def _shows_excluded(hit: SearchHit) -> bool:
    return any(each.source == WITHOUT for each in hit.evidence)


def _text_score(hit: SearchHit) -> float:
    return next(each.score for each in hit.evidence if each.source == LEXICAL)


def _is_answer(hit: SearchHit) -> bool:
    """Whether a text has most of what is asked."""
    return any((each.fraction or 0.0) >= _SURE_FRACTION for each in hit.evidence)


def _best_inside(
    video: VideoSegments, phrases: np.ndarray, hit: SearchHit, level: str
) -> np.ndarray:
    """`(M,)`, of each phrase the best score in a hit's seconds."""
    inside: np.ndarray = np.ones(len(video.spans), dtype=bool)
    if level == "moment":
        inside = (video.spans[:, 0] < hit.end_seconds) & (video.spans[:, 1] > hit.start_seconds)
    return (video.embeddings[inside if inside.any() else slice(None)] @ phrases.T).max(axis=0)
