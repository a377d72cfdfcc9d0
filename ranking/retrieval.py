"""What is asked and an index -> hits: candidates of each source, fused, reranked and explained.

Pictures are searched by their embeddings, texts (captions, titles, tags, names, what was read or
heard) by their words. Both give candidates, which reciprocal ranks put into one order. What must
not be shown costs a candidate as much as it shows of it; events are looked for in their order.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from indexing.documents import stems, words_of
from indexing.hits import LexicalHit, SearchHit
from indexing.reading import IndexReader, VideoSegments
from ranking.candidates import describe_candidates
from ranking.composition import excluding
from ranking.confidence import DEFAULT_CALIBRATION, Background, Calibration
from ranking.events import align_events_in_videos
from ranking.evidence import Evidence
from ranking.fusion import fuse_reciprocal_ranks, leading
from ranking.learned import LearnedRanker

PICTURE, WORDS = "picture", "words"
WITHOUT, EVENTS, LEARNED = "without", "events", "learned"
SOURCES = (PICTURE, WORDS)

_POOL = 50  # candidates among pictures, at least
_TEXTS = 30  # candidates among texts, at least
_WEIGHTS = {WORDS: 1.2}  # what has all the words goes before what looks most like it
_LEAST_SENTENCES = 32  # below which a background says little
_LEAST_SHARE = 0.25  # of what is asked, in a text that counts beside pictures
_ANSWERING_SHARE = 0.5  # of what is asked, in a text, that answers it
_SAMPLE_VIDEOS = 256  # of the collection, which tell what a phrase usually scores


@dataclass(frozen=True)
class Request:
    """What is asked, as an index understands it.

    Attributes:
        wanted: `(D,)` embedding of what should be shown.
        words: that texts should have, as `text.segmentation` gives them; none to leave texts out.
        excluded: `(M, D)` embeddings of what should not be shown; M may be 0.
        excluded_words: that texts should not have.
        events: `(E, D)` embeddings of what should happen, in its order; E is 0 or at least 2.
        where: what the videos must be like, see `indexing.filters`.
        sources: that give candidates, of `SOURCES`.
    """

    wanted: np.ndarray
    words: Sequence[str] = ()
    excluded: np.ndarray | Sequence = ()
    excluded_words: Sequence[str] = ()
    events: np.ndarray | Sequence = ()
    where: str | None = None
    sources: Sequence[str] = SOURCES

    def __post_init__(self) -> None:
        if not self.sources or not set(self.sources) <= set(SOURCES):
            raise ValueError(
                f"sources={','.join(self.sources)}: must be one or more of {', '.join(SOURCES)}"
            )


class Retriever:
    """Answers requests from an index.

    Args:
        reader: of the index.
        weights: how much a rank in each source counts, 1 for those not named; None for what was
            found to be good (`benchmarks/fusion.py`).
        calibration: says how probable it is that a hit matches.
        ranker: orders whole videos, in place of reciprocal ranks.
    """

    def __init__(
        self,
        reader: IndexReader,
        *,
        weights: dict[str, float] | None = None,
        calibration: Calibration = DEFAULT_CALIBRATION,
        ranker: LearnedRanker | None = None,
    ) -> None:
        self._reader = reader
        self._weights = _WEIGHTS if weights is None else weights
        self._calibration = calibration
        self._ranker = ranker
        # Of a generation and a level.
        self._background: tuple[tuple[int, str], Background | None] = ((-1, ""), None)

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
        if len(request.events):
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
            or any((each.share or 0.0) >= _ANSWERING_SHARE for each in hit.evidence)
        ]
        return [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]

    def order(self, request: Request, video_ids: Sequence[int]) -> list[int]:
        """These videos in the order in which a search has them; those that it does not find last.

        For measuring: what would come first is not asked for alone, but all that there is.
        """
        found = self._by_sources(request, k=max(_POOL, 10 * len(video_ids)), level="video")
        places = {hit.video_id: rank for rank, hit in enumerate(found)}
        return sorted(video_ids, key=lambda video_id: places.get(video_id, len(places)))

    def _learned_order(self, request: Request, hits: list[SearchHit]) -> list[SearchHit]:
        assert self._ranker is not None
        if not hits:
            return hits
        features = describe_candidates(
            self._reader,
            [hit.video_id for hit in hits],
            wanted=request.wanted,
            words=request.words if WORDS in request.sources else (),
        )
        scores = self._ranker.score(features).tolist()
        judged = [
            replace(hit, score=score, evidence=(*hit.evidence, Evidence(LEARNED, score=score)))
            for hit, score in zip(hits, scores, strict=True)
        ]
        return sorted(judged, key=lambda hit: -hit.score)

    def _with_confidence(
        self, request: Request, hits: list[SearchHit], level: str
    ) -> list[SearchHit]:
        background = self._measured_background(level)
        if background is None or not hits:
            return hits
        if level == "video":
            items = self._reader.whole([hit.video_id for hit in hits])
        else:
            videos = self._segments(hits)
            items = np.stack([_best_segment(videos[hit.video_id], hit) for hit in hits])
        features = background.features(request.wanted, items)
        probabilities = self._calibration.probability(features).tolist()
        return [replace(hit, confidence=p) for hit, p in zip(hits, probabilities, strict=True)]

    def _measured_background(self, level: str) -> Background | None:
        """What everyday sentences score in this generation; None where the index keeps none."""
        place = self._reader.manifest.generation, level
        if self._background[0] != place:
            sentences, sample = self._reader.sentences(), self._reader.sample(_SAMPLE_VIDEOS)
            measured = None
            if len(sentences) >= _LEAST_SENTENCES and sample:
                items = [v.whole[None] if level == "video" else v.embeddings for v in sample]
                measured = Background.measure(sentences, np.concatenate(items))
            self._background = place, measured
        return self._background[1]

    def _by_sources(self, request: Request, *, k: int, level: str) -> list[SearchHit]:
        texts = self._texts(request, k=k, level=level)
        pictures: list[SearchHit] = []
        if PICTURE in request.sources:
            needs_more = bool(texts) or len(request.excluded) or self._ranker is not None
            pictures = self._reader.search(
                request.wanted,
                k=max(k, _POOL) if needs_more else k,
                level=level,
                where=request.where,
            )
            judged = self._judged(request, pictures, level=level)
            judged.sort(key=lambda hit: -hit.score)
            pictures = _with_evidence(PICTURE, judged)
        if not texts:
            return pictures
        return self._fused(request, pictures, texts, level=level)

    def _texts(self, request: Request, *, k: int, level: str) -> list[tuple[LexicalHit, float]]:
        """Texts that have words of the query, best first, with the share of it that each has."""
        if WORDS not in request.sources or not request.words:
            return []
        texts = self._reader.search_words(
            request.words,
            k=max(k, _TEXTS),
            excluded=request.excluded_words,
            where=request.where,
            level=level,
        )
        least = 0.0
        if PICTURE in request.sources:
            # A text that shares a word or two with the query is no evidence beside one with all of
            # it, nor where there is none with more.
            texts, least = leading(texts, [text.score for text in texts]), _LEAST_SHARE
        shares = [self._share_of_words(request.words, text.text) for text in texts]
        return [pair for pair in zip(texts, shares, strict=True) if pair[1] >= least]

    def _fused(
        self,
        request: Request,
        pictures: list[SearchHit],
        texts: list[tuple[LexicalHit, float]],
        *,
        level: str,
    ) -> list[SearchHit]:
        """Both rankings in one. A moment that a picture and a text speak for is one hit."""
        found = self._as_hits(request, pictures, texts, level=level)
        by_place = {_place(hit): hit for hit in pictures}
        rankings = {PICTURE: list(map(_place, pictures)), WORDS: list(map(_place, found))}
        fused = fuse_reciprocal_ranks(rankings, weights=self._weights)
        evidence: dict[tuple, list[Evidence]] = {}
        for hit in (*pictures, *found):
            known = evidence.setdefault(_place(hit), [])
            known += [each for each in hit.evidence if each.source not in {e.source for e in known}]
        # What was read or heard tells the second better than the picture does.
        by_place |= {_place(hit): hit for hit in reversed(found)}
        hits = []
        for each in fused:
            place: Any = each.item
            hits.append(replace(by_place[place], score=each.score, evidence=tuple(evidence[place])))
        return hits

    def _as_hits(
        self,
        request: Request,
        pictures: list[SearchHit],
        texts: list[tuple[LexicalHit, float]],
        *,
        level: str,
    ) -> list[SearchHit]:
        """Texts as hits of pictures, with the same scores, in the texts' order."""
        video_ids = sorted({text.video_id for text, _ in texts})
        of_video: dict[int, list[SearchHit]] = {}
        for hit in self._reader.hits_of(video_ids, request.wanted, level=level):
            of_video.setdefault(hit.video_id, []).append(hit)
        shown = {_place(hit) for hit in pictures}
        hits = []
        for rank, (text, share) in enumerate(texts, start=1):
            if text.video_id not in of_video:  # deleted since
                continue
            hit = _hit_of_text(text, of_video[text.video_id], shown, level)
            detail = f"{text.source}: {text.text}"
            evidence = Evidence(WORDS, rank, text.score, detail, share=share)
            hits.append(replace(hit, evidence=(evidence,)))
        judged = self._judged(request, hits, level=level)
        judged.sort(key=lambda hit: any(each.source == WITHOUT for each in hit.evidence))
        return judged

    def _share_of_words(self, asked: Sequence[str], text: str) -> float:
        """How much of what is asked a text has: each word counts by its inverse document frequency
        (Robertson and Zaragoza 2009, equation 3.1), and endings do not matter."""
        frequency, _ = self._reader.vocabulary()
        num_videos = self._reader.manifest.num_videos
        has = set(stems(words_of([text])))
        total = shared = 0.0
        for word in dict.fromkeys(asked):
            found = min(num_videos, frequency.get(word, 0))
            rarity = math.log(1 + (num_videos - found + 0.5) / (found + 0.5))
            total += rarity
            shared += rarity * has.issuperset(stems([word]))
        return shared / total if total else 0.0

    def _judged(self, request: Request, hits: list[SearchHit], *, level: str) -> list[SearchHit]:
        """Hits with a lower score where they show what should not be shown."""
        if not len(request.excluded) or not hits:
            return list(hits)
        unwanted = np.asarray(request.excluded)
        videos = self._segments(hits)
        sample = self._reader.sample(_SAMPLE_VIDEOS)
        scores = excluding(
            np.array([hit.score for hit in hits]),
            np.array([_best_inside(videos[hit.video_id], unwanted, hit, level) for hit in hits]).T,
            positive_background=_best_of(sample, request.wanted[None])[0],
            negative_background=_best_of(sample, unwanted),
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
        candidates: dict[int, SearchHit] = {}
        for event in (request.wanted, *request.events):
            for hit in self._reader.search(
                event, k=max(k, _POOL), level="moment", where=request.where
            ):
                candidates.setdefault(hit.video_id, hit)
        hits = list(candidates.values())
        if not hits:
            return []
        videos = self._segments(hits)
        events = np.asarray(request.events)
        usual = _best_of(self._reader.sample(_SAMPLE_VIDEOS), events).mean(axis=1, keepdims=True)
        of_each = [videos[hit.video_id] for hit in hits]
        matches = align_events_in_videos(
            events @ np.concatenate([video.embeddings for video in of_each]).T - usual,
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
                    evidence=(Evidence(EVENTS, score=match.ordered, detail=at),),
                )
            )
        return sorted(found, key=lambda hit: -hit.score)

    def _segments(self, hits: Iterable[SearchHit]) -> dict[int, VideoSegments]:
        return self._reader.segments(sorted({hit.video_id for hit in hits}))


def _best_segment(video: VideoSegments, hit: SearchHit) -> np.ndarray:
    """`(D,)`, what a moment was found by."""
    place = int(np.abs(video.spans.mean(axis=1) - hit.best_seconds).argmin())
    return video.embeddings[place]


def _place(hit: SearchHit) -> tuple:
    """What makes two hits the same one."""
    return hit.video_id, hit.start_seconds, hit.end_seconds


def _with_evidence(source: str, hits: list[SearchHit]) -> list[SearchHit]:
    return [
        replace(hit, evidence=(Evidence(source, rank, hit.score), *hit.evidence))
        for rank, hit in enumerate(hits, start=1)
    ]


def _hit_of_text(
    text: LexicalHit, of_video: list[SearchHit], shown: set[tuple], level: str
) -> SearchHit:
    """The video, or the moment of it, that a text speaks of: a timed one of its own seconds."""
    if text.start_seconds is None or text.end_seconds is None:
        return of_video[0]
    middle = (text.start_seconds + text.end_seconds) / 2
    if level == "video":
        return replace(of_video[0], best_seconds=middle)
    around = [hit for hit in of_video if hit.start_seconds <= middle < hit.end_seconds]
    hit = (around or of_video)[0]
    if _place(hit) not in shown:  # no picture speaks for the rest of that moment
        hit = replace(hit, start_seconds=text.start_seconds, end_seconds=text.end_seconds)
    return replace(hit, best_seconds=middle)


def _best_inside(
    video: VideoSegments, phrases: np.ndarray, hit: SearchHit, level: str
) -> np.ndarray:
    """`(M,)`, of each phrase the best score in a hit's seconds."""
    inside = np.ones(len(video.spans), dtype=bool)
    if level == "moment":
        inside = (video.spans[:, 0] < hit.end_seconds) & (video.spans[:, 1] > hit.start_seconds)
    return (video.embeddings[inside if inside.any() else slice(None)] @ phrases.T).max(axis=0)


def _best_of(videos: Sequence[VideoSegments], phrases: np.ndarray) -> np.ndarray:
    """`(M, N)`, of each phrase the best score in each video."""
    counts = np.array([len(video.spans) for video in videos])
    scores = phrases @ np.concatenate([video.embeddings for video in videos]).T
    return np.maximum.reduceat(scores, np.cumsum(counts) - counts, axis=1)
