"""Videos of an index and what is asked -> what is known of each: what a learned ranker looks at."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np

from reelseek.indexing.lexical.documents import stems, texts_of, words_of
from reelseek.indexing.reader import IndexReader
from reelseek.indexing.store.dates import date_of
from reelseek.indexing.store.videos import VideoRecord
from reelseek.ranking.learning.features import FEATURE_NAMES, assemble_features

_MAX_TEXTS = 1000  # that are looked at for the candidates' texts
_SOURCE_COLUMNS = {
    "captions": "lexical_captions",
    "title": "lexical_title",
    "tags": "lexical_tags",
    "name": "lexical_file_name",
    "ocr": "lexical_ocr",
    "speech": "lexical_speech",
}


def describe_candidates(
    reader: IndexReader,
    video_ids: Sequence[int],
    *,
    query_embedding: np.ndarray,
    words: Sequence[str],
    names: Sequence[str] = (),
    confidence: Callable[[np.ndarray], np.ndarray] | None = None,
    now: datetime | None = None,
) -> np.ndarray:
    """The features of videos that are in the index, as candidates of one query.

    Args:
        query_embedding: `(D,)`, the query's embedding.
        words: of the query; none to leave texts out.
        names: that the query has, see `text.query.entities`.
        confidence: `(n, D)` embeddings of videos to `(n,)`, how probable it is that each matches.
        now: that a video's age is counted to; default: the present.

    Returns:
        `(n, len(FEATURE_NAMES))` float32, NaN where something is not known; of a video that has
        been deleted since, nothing is.
    """
    every, records = reader.segments(video_ids), reader.records(video_ids)
    there = [number for number, v in enumerate(video_ids) if v in every and v in records]
    features = np.full((len(video_ids), len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    if not there:
        return features
    video_ids = [video_ids[number] for number in there]
    videos = [every[video_id] for video_id in video_ids]
    of_segments = [np.sort(video.embeddings @ query_embedding)[::-1] for video in videos]
    whole = np.array([float(video.whole @ query_embedding) for video in videos])
    best = np.array([float(scores[0]) for scores in of_segments])
    columns = {
        "video_similarity": whole,
        "moment_similarity": best,
        "top3_similarity": np.array([float(scores[:3].mean()) for scores in of_segments]),
        "video_rank": _ranks(whole),
        "moment_rank": _ranks(best),
        "log_duration": np.log([max(1e-3, float(video.spans[:, 1].max())) for video in videos]),
        "log_segments": np.log([len(video.spans) for video in videos]),
    }
    if confidence is not None:
        columns["confidence"] = confidence(np.stack([video.whole for video in videos]))
    now = now or datetime.now()
    columns["freshness_days"] = np.array(
        [_age_days(_date(records[video_id]), now) for video_id in video_ids]
    )
    if names and reader.has_lexical_index:
        name_stems = [stems(words_of([name])) for name in names]
        columns["entity_share"] = np.array(
            [_matched_name_fraction(records[video_id], name_stems) for video_id in video_ids]
        )
    for name in ("lexical", "lexical_rank", *_SOURCE_COLUMNS.values()):
        columns[name] = np.full(len(videos), np.nan)
    index_of = {video_id: number for number, video_id in enumerate(video_ids)}
    texts = reader.search_words(words, k=_MAX_TEXTS) if words else []
    for rank, text in enumerate(texts, start=1):
        if (number := index_of.get(text.video_id)) is not None:
            columns["lexical"][number] = text.score
            columns["lexical_rank"][number] = rank
            columns[_SOURCE_COLUMNS[text.source]][number] = text.score
    features[there] = assemble_features(columns, num_candidates=len(videos))
    return features


def _matched_name_fraction(record: VideoRecord, names: Sequence[Sequence[str]]) -> float:
    """How many of the names, each of some stems, are in what is said of a video."""
    said = set(stems(words_of(text for texts in texts_of(record).values() for text in texts)))
    return float(np.mean([said.issuperset(name) for name in names]))


def _date(record: VideoRecord) -> str:
    """As filters and hits have it."""
    date, _ = date_of(record.metadata, record.signature.modified_ns)
    return date


def _age_days(date: str, now: datetime) -> float:
    """Of a date as far as it is told, such as 2026-11; NaN where there is none."""
    for rest in ("", "-01", "-01-01"):
        try:
            then = datetime.fromisoformat(f"{date}{rest}").replace(tzinfo=None)
        except ValueError:
            continue
        return (now - then) / timedelta(days=1)
    return float("nan")


def _ranks(scores: np.ndarray) -> np.ndarray:
    """From 1, among the candidates."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks
