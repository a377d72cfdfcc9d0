"""Videos of an index and what is asked -> what is known of each: what a learned ranker looks at."""

from collections.abc import Sequence

import numpy as np

from indexing.reading import IndexReader
from ranking.features import assemble_features

_MOST_TEXTS = 1000  # that are looked at for the candidates' texts
_SOURCE_COLUMNS = {
    "captions": "lexical_captions",
    "title": "lexical_title",
    "tags": "lexical_tags",
    "name": "lexical_file_name",
    "ocr": "lexical_ocr",
    "speech": "lexical_speech",
}


def describe_candidates(
    reader: IndexReader, video_ids: Sequence[int], *, wanted: np.ndarray, words: Sequence[str]
) -> np.ndarray:
    """The features of videos that are in the index, as candidates of one query.

    Args:
        wanted: `(D,)`, the query's embedding.
        words: of the query; none to leave texts out.

    Returns:
        `(n, len(FEATURE_NAMES))` float32, NaN where something is not known.

    Raises:
        KeyError: a video is not in the index's published state.
    """
    num = len(video_ids)
    every = reader.segments(video_ids)
    videos = [every[video_id] for video_id in video_ids]
    of_segments = [np.sort(video.embeddings @ wanted)[::-1] for video in videos]
    whole = np.array([float(video.whole @ wanted) for video in videos])
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
    for name in ("lexical", "lexical_rank", *_SOURCE_COLUMNS.values()):
        columns[name] = np.full(num, np.nan)
    place = {video_id: number for number, video_id in enumerate(video_ids)}
    texts = reader.search_words(words, k=_MOST_TEXTS) if words else []
    for rank, text in enumerate(texts, start=1):
        if (number := place.get(text.video_id)) is not None:
            columns["lexical"][number] = text.score
            columns["lexical_rank"][number] = rank
            columns[_SOURCE_COLUMNS[text.source]][number] = text.score
    return assemble_features(columns, num_candidates=num)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """From 1, among the candidates."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks
