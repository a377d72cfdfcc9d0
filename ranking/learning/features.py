"""The evidence for a query's candidates -> the features of a learned ranker.

A feature is NaN, which is not 0, where a source did not find the candidate or was not searched.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

# The order is that of the columns, and part of every trained ranker: append, never reorder.
FEATURE_NAMES = (
    "video_similarity",  # of the query's embedding to the video's
    "moment_similarity",  # to the best segment's
    "top3_similarity",  # mean of the three best segments
    "lexical",  # BM25, of all text of the video
    "lexical_captions",  # BM25 by where the words stand
    "lexical_title",
    "lexical_tags",
    "lexical_file_name",
    "lexical_ocr",
    "lexical_speech",
    "video_rank",  # in each source, from 1
    "moment_rank",
    "lexical_rank",
    "entity_share",  # of the query's named entities that the video names, 0 to 1
    "confidence",  # probability of a visual match, 0 to 1
    "log_duration",  # natural logarithm of seconds
    "log_segments",  # natural logarithm of their number
    "freshness_days",  # since the video's date
    # How far behind the best of the query's candidates: comparable between queries.
    "video_similarity_behind",
    "moment_similarity_behind",
    "lexical_behind",
)
_BEHIND = "_behind"
_GIVEN = tuple(name for name in FEATURE_NAMES if not name.endswith(_BEHIND))


def assemble_features(columns: Mapping[str, ArrayLike], *, num_candidates: int) -> np.ndarray:
    """Returns one query's candidates as rows.

    Args:
        columns: any of `FEATURE_NAMES` but those that end in `_behind`, which are computed:
            `(num_candidates,)` each, NaN (or None) where a candidate lacks it, or one number for
            all of them.
        num_candidates: of the query.

    Returns:
        `(num_candidates, len(FEATURE_NAMES))` float32.

    Raises:
        ValueError: an unknown name, a column of another length, or an infinite value.
    """
    features = np.full((num_candidates, len(FEATURE_NAMES)), np.nan, dtype=np.float32)
    for name, values in columns.items():
        if name not in _GIVEN:
            raise ValueError(f"feature {name!r} is unknown: must be of {', '.join(_GIVEN)}")
        column = np.asarray(values, dtype=np.float32)
        if column.ndim and column.shape != (num_candidates,):
            raise ValueError(
                f"feature {name} is {column.shape}: must be ({num_candidates},), one value for "
                "each candidate"
            )
        if np.isinf(column).any():
            raise ValueError(f"feature {name} holds infinite values: give NaN for a missing value")
        features[:, FEATURE_NAMES.index(name)] = column
    for index, name in enumerate(FEATURE_NAMES):
        if name.endswith(_BEHIND):
            column = features[:, FEATURE_NAMES.index(name.removesuffix(_BEHIND))]
            if not np.isnan(column).all():
                features[:, index] = np.nanmax(column) - column
    return features
