"""One request to one shard: what it finds, and the rows of what is chosen of that.

See `indexing.shards.gathering` for the steps of a search over several shards.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from reelseek.indexing.candidates import CandidateSet, GatherRequest, TextMatch
from reelseek.indexing.lexical import documents
from reelseek.indexing.lexical.found import FoundTexts, Match
from reelseek.indexing.shards.gathering import ShardChoice, ShardFindings
from reelseek.indexing.shards.reader import ShardReader
from reelseek.indexing.store.catalogue import VideoRecord
from reelseek.indexing.vectors.level import Neighbours


class ReaderQuery:
    """A request to a shard that this process has open. Reads each embedding once, whatever the
    steps.

    Args:
        shard: bound to the snapshot that is asked.
        request: to all shards.
    """

    def __init__(self, shard: ShardReader, request: GatherRequest) -> None:
        self._shard = shard
        self._snapshot = shard.snapshot
        self._request = request
        self._reads = shard.snapshot.reads()

    def find(self, *, vectors: bool = True) -> ShardFindings:
        """Finds the nearest vectors of each embedding and the best texts. Reads rows only where
        a filter leaves so few that all are compared.

        Args:
            vectors: whether to look for vectors.

        Raises:
            ValueError: the filter is wrong, or a file is damaged.
        """
        neighbours = [
            self._neighbours(embedding) if vectors else Neighbours.none()
            for embedding in self._request.embeddings
        ]
        return ShardFindings(neighbours, self._texts())

    def rescore(self, embedding: int, locations: np.ndarray) -> np.ndarray:
        """Compares vectors with an embedding of the request exactly.

        Args:
            embedding: its place in the request.
            locations: `(n, 2)`, of `Neighbours`.

        Returns:
            `(n,)` float32.

        Raises:
            ValueError: a file is damaged.
        """
        rows = self._reads.read(locations)
        return np.einsum("nd,d->n", rows, self._request.embeddings[embedding])

    def read(self, choice: ShardChoice) -> CandidateSet | None:
        """Reads what scoring needs of the chosen videos and texts, and of the shard's own videos
        that the request names.

        Returns:
            None where some have been deleted since they were found: all shards are to be asked
            again, and this one will not find them.

        Raises:
            ValueError: a file is damaged.
        """
        numbers = {
            int(number) for videos in (*choice.videos, choice.texts.videos) for number in videos
        }
        records = self._shard.records(numbers, self._snapshot)
        if records is None:
            return None
        names = {number: record.public_id for number, record in records.items()}
        if more := set(self._request.ids) - set(names.values()):
            named = self._shard.catalogue.by_public_id(more).values()
            records |= {record.id: record for record in named}
        candidates = self._snapshot.candidates(
            records, self._reads, num_frames=self._request.num_frames
        )
        return CandidateSet(
            {video.id: video for video in candidates},
            [[names[number] for number in videos.tolist()] for videos in choice.videos],
            self._text_matches(choice.texts, records),
        )

    @cached_property
    def _only(self) -> np.ndarray | None:
        where = self._request.where
        return None if where is None else self._shard.matching(where)

    def _neighbours(self, embedding: np.ndarray) -> Neighbours:
        return self._snapshot.neighbours(
            embedding,
            self._reads,
            level=self._request.level,
            num=self._request.num_videos,
            only=self._only,
        )

    def _texts(self) -> FoundTexts:
        request, lexical = self._request, self._snapshot.lexical
        if lexical is None or not request.num_texts:
            return FoundTexts.none()
        return lexical.find(
            request.stems,
            num=request.num_texts,
            terms=request.terms,
            optional=request.optional_stems,
            excluded=request.excluded_stems,
            only=self._only,
            level=request.level,
        )

    def _text_matches(self, texts: FoundTexts, records: dict[int, VideoRecord]) -> list[TextMatch]:
        request, lexical = self._request, self._snapshot.lexical
        if lexical is None or not len(texts.videos):
            return []
        matches = lexical.read(texts, request.stems, optional=request.optional_stems)
        return [_text_match(each, records[each.video_id], request.stems) for each in matches]


def _text_match(match: Match, record: VideoRecord, stems: Sequence[str]) -> TextMatch:
    source, text = match.source, match.text
    if not source:
        source, text = documents.best_text(record, stems)
    return TextMatch(
        id=record.public_id,
        level=match.level,
        counts=match.counts,
        length=match.length,
        source=source,
        text=text,
        start_seconds=match.start_seconds,
        end_seconds=match.end_seconds,
    )
