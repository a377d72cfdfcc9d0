"""A request and one or more shards -> hits: statistics summed, candidates gathered, then scored."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np

from reelseek.indexing.candidates import (
    CandidateSet,
    CandidateVideo,
    CollectionStatistics,
    GatherRequest,
)
from reelseek.indexing.lexical.scoring import TermStatistics
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.store.manifest import LEVELS
from reelseek.ranking.background import BackgroundScores
from reelseek.ranking.generation_cache import GenerationCache
from reelseek.ranking.hits import Copy, SearchHit
from reelseek.ranking.readers import Reader
from reelseek.ranking.request import LEXICAL, VISUAL, Request
from reelseek.ranking.scoring import POOL, RANKER_TEXTS, Collected, Scorer
from reelseek.ranking.segments import SegmentMatches, segment_matches
from reelseek.ranking.stages import StageTimes
from reelseek.ranking.texts import Terms, query_stems
from reelseek.ranking.token_matching.matching import MAX_FRAMES
from reelseek.ranking.visual import Match, num_videos_for

_ANSWERING_FRACTION = 0.5  # of the query's words, in a text that answers it
_GROWTH = 4  # of what is gathered, where copies of videos have left too few


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        hits: best first.
        num_ranked: hits that were found before those that are hardly probable were left out, at
            most k of them.
    """

    hits: list[SearchHit]
    num_ranked: int


class Retriever:
    """Answers requests from an index, or from the shards of one.

    Args:
        readers: of the index, or one of each shard.
        scorer: scores what they gather.
    """

    def __init__(self, readers: Reader | Sequence[Reader], *, scorer: Scorer | None = None) -> None:
        self._readers = list(readers) if isinstance(readers, Sequence) else [readers]
        self._scorer = scorer or Scorer()
        self._backgrounds: GenerationCache[BackgroundScores] = GenerationCache()

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self._readers[0].manifest.settings.embedding_dim

    def search(
        self, request: Request, *, k: int, level: str, min_confidence: float = 0.0
    ) -> list[SearchHit]:
        """Returns the hits of `find`."""
        return self.find(request, k=k, level=level, min_confidence=min_confidence).hits

    def find(
        self,
        request: Request,
        *,
        k: int,
        level: str,
        min_confidence: float = 0.0,
        times: StageTimes | None = None,
    ) -> Found:
        """Finds the best hits, each with its evidence and the probability that it matches.

        Args:
            k: hits to return, at least 1; fewer come back where there are fewer.
            level: `video` or `moment`.
            min_confidence: leave out hits that are less probable to match, but for those whose
                texts have at least half of the query's words; 0 to 1.
            times: where to note how long each stage takes.

        Raises:
            ValueError: k, level or the filter is wrong, or a file of the index is damaged.
        """
        if k < 1:
            raise ValueError(f"k={k}: must be at least 1")
        if level not in LEVELS:
            raise ValueError(f"level={level}: must be one of {', '.join(LEVELS)}")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence={min_confidence}: must be 0 to 1")
        times = times or StageTimes()
        with self._one_generation():
            for reader in self._readers:
                reader.log_queries([request.query_embedding, *request.steps])
            ranked = self._matches(request, k=k, level=level, times=times)[:k]
            matches = [
                match
                for match in ranked
                if match.confidence is None
                or match.confidence >= min_confidence
                or any((each.fraction or 0.0) >= _ANSWERING_FRACTION for each in match.evidence)
            ]
            with times.measure("hits"):
                return Found(self._hits(matches, request.where), len(ranked))

    def background(self) -> BackgroundScores:
        """Returns what phrases usually score in the collection as it is now."""
        statistics = tuple(reader.statistics() for reader in self._readers)
        return self._backgrounds.get(
            statistics, lambda: BackgroundScores(CollectionStatistics.merge(statistics))
        )

    def warm_up(self) -> None:
        """Measures what everyday sentences score, which the first search would wait for."""
        background = self.background()
        for level in LEVELS:
            background.background(level)

    def describe(self, request: Request, ids: Sequence[str]) -> np.ndarray:
        """Returns `(n, F)` float32, the features that a ranker looks at of these videos, as
        candidates of one query; NaN for videos that are not there."""
        with self._one_generation():
            collected = self._collected(request)
            candidates = self._gather(
                request, collected, num=(1, RANKER_TEXTS), level="video", ids=ids
            )
            there = [number for number, id in enumerate(ids) if id in candidates.videos]
            videos = [candidates.videos[ids[number]] for number in there]
            described = self._scorer.describe(request, videos, candidates, collected)
        features = np.full((len(ids), described.shape[1]), np.nan, dtype=np.float32)
        features[there] = described
        return features

    def candidates(self, request: Request) -> list[str]:
        """Returns the public ids of the videos that a ranker orders in a search for ten."""
        with self._one_generation():
            unranked = Retriever(self._readers, scorer=replace(self._scorer, ranker=None))
            return [match.video.id for match in unranked._matches(request, k=POOL, level="video")]

    def order(self, request: Request, ids: Sequence[str]) -> list[str]:
        """Returns these videos in the order in which a search has them; for measuring. Those that
        it does not find come last."""
        with self._one_generation():
            unranked = Retriever(self._readers, scorer=replace(self._scorer, ranker=None))
            found = unranked._matches(request, k=max(POOL, 10 * len(ids)), level="video")
            records = self._records_of(match.video.content for match in found)
        ranks: dict[str, int] = {}
        for rank, match in enumerate(found):
            ranks |= dict.fromkeys((each.public_id for each in records[match.video.content]), rank)
        return sorted(ids, key=lambda id: ranks.get(id, len(found)))

    def videos(self, ids: Sequence[str], *, num_frames: int = 0) -> dict[str, CandidateVideo]:
        """Reads videos by public id, as far as they are there."""
        nothing = np.empty((0, self.embedding_dim), np.float32)
        request = GatherRequest(nothing, "video", 0, ids=ids, num_frames=num_frames)
        return CandidateSet.merge([reader.gather(request) for reader in self._readers]).videos

    def match_segments(self, request: Request, ids: Sequence[str]) -> dict[str, SegmentMatches]:
        """Scores every segment of these videos, as far as they are there; reads no others."""
        with self._one_generation():
            videos = self.videos(ids)
            matches = segment_matches(
                list(videos.values()),
                request.query_embedding,
                background=self.background().background("moment"),
                calibration=self._scorer.calibration,
            )
            return dict(zip(videos, matches, strict=True))

    @contextmanager
    def _one_generation(self) -> Iterator[None]:
        with ExitStack() as stack:
            for reader in self._readers:
                stack.enter_context(reader.one_generation())
            yield

    def _matches(
        self, request: Request, *, k: int, level: str, times: StageTimes | None = None
    ) -> list[Match]:
        """Gathers and scores; again with more, where copies of videos have left too few."""
        times = times or StageTimes()
        with times.measure("gathering"):
            collected = self._collected(request)
        has_texts = LEXICAL in request.sources and collected.terms.occur
        # Without texts and all that reorders, the k nearest videos are the answer.
        is_plain = not (len(request.excluded) or len(request.steps))
        reorders = not is_plain or self._scorer.ranker or self._scorer.token_matching
        num = max(k, POOL) if has_texts or reorders else k
        found_by = "moment" if len(request.steps) else level
        num_videos, num_texts = num_videos_for(num, found_by), num
        if self._scorer.ranker is not None and level == "video":
            num_texts = max(num_texts, RANKER_TEXTS)
        while True:
            num_gathered = num_videos, num_texts
            with times.measure("gathering"):
                candidates = self._gather(request, collected, num=num_gathered, level=found_by)
            with times.measure("scoring"):
                matches, is_complete = self._scorer.score(
                    request,
                    candidates,
                    collected,
                    k=k,
                    num=num,
                    num_gathered=num_gathered,
                    level=level,
                )
            if is_complete:
                return matches
            num_videos, num_texts = _GROWTH * num_videos, _GROWTH * num_texts

    def _gather(
        self,
        request: Request,
        collected: Collected,
        *,
        num: tuple[int, int],
        level: str,
        ids: Sequence[str] = (),
    ) -> CandidateSet:
        dim = self.embedding_dim
        embeddings = np.empty((0, dim), np.float32)
        if VISUAL in request.sources or len(request.steps):
            embeddings = np.concatenate(
                [request.query_embedding[None], np.asarray(request.steps).reshape(-1, dim)]
            )
        # As many more as are left out, so that as many are left as were asked for.
        num_left_out = len(self._records_left_out(request))
        terms = collected.terms
        gather = GatherRequest(
            embeddings,
            level,
            num[0] + num_left_out,
            stems=terms.required,
            optional_stems=terms.optional,
            excluded_stems=terms.excluded,
            num_texts=num[1] if terms.required and not len(request.steps) else 0,
            terms=terms.statistics,
            where=request.where,
            ids=ids,
            num_frames=MAX_FRAMES if self._scorer.token_matching and len(request.tokens) else 0,
        )
        gathered = CandidateSet.merge([reader.gather(gather) for reader in self._readers])
        return _without(gathered, request.left_out) if num_left_out else gathered

    def _records_left_out(self, request: Request) -> list[VideoRecord]:
        if not request.left_out:
            return []
        return [each for reader in self._readers for each in reader.copies(request.left_out)]

    def _collected(self, request: Request) -> Collected:
        searches_texts = LEXICAL in request.sources and request.words
        has_texts = any(reader.has_lexical_index for reader in self._readers)
        required, optional, excluded = (
            query_stems(request) if searches_texts and has_texts else ([], [], [])
        )
        terms = TermStatistics.merge_levels(
            reader.term_statistics([*required, *optional]) for reader in self._readers
        )
        background = self.background()
        return Collected(
            background.statistics,
            background,
            Terms(required if terms else [], optional, excluded, terms),
        )

    def _hits(self, matches: Sequence[Match], where: str | None) -> list[SearchHit]:
        """Matches as hits, with the copies of each video. Where a text does not speak of one of
        them, the copy with the first id stands for all."""
        records = self._records_of(match.video.content for match in matches)
        passing = records
        if where is not None and any(len(copies) > 1 for copies in records.values()):
            passing = self._records_of((match.video.content for match in matches), where)
        hits = []
        for rank, match in enumerate(matches, start=1):
            content = match.video.content
            if passing.get(content) and not any(e.source == LEXICAL for e in match.evidence):
                match = match._replace(video=replace(match.video, record=passing[content][0]))
            others = [each for each in records.get(content, ()) if each.public_id != match.video.id]
            copies = tuple(Copy(each.public_id, each.key, each.path) for each in others)
            hits.append(replace(match.hit(rank), also_as=copies))
        return hits

    def _records_of(
        self, contents: Iterable[str], where: str | None = None
    ) -> dict[str, list[VideoRecord]]:
        """All videos of each content, by public id."""
        found: dict[str, list[VideoRecord]] = {}
        different = dict.fromkeys(contents)
        for reader in self._readers:
            for record in reader.copies(different, where=where):
                found.setdefault(record.signature.content_sha256, []).append(record)
        for copies in found.values():
            copies.sort(key=lambda record: record.public_id)
        return found


def _without(gathered: CandidateSet, contents: Collection[str]) -> CandidateSet:
    """The candidates that have none of these contents."""
    videos = {id: each for id, each in gathered.videos.items() if each.content not in contents}
    return CandidateSet(
        videos,
        [[id for id in ids if id in videos] for ids in gathered.nearest],
        [text for text in gathered.texts if text.id in videos],
    )
