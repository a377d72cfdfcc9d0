import numpy as np
import pytest

from reelseek.ranking import FEATURE_NAMES, assemble_features


def column(features, name):
    return features[:, FEATURE_NAMES.index(name)]


def test_names_are_the_columns_of_trained_rankers():
    # Rankers on disk know their columns by these names: names may be added, not taken away.
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 21
    assert FEATURE_NAMES[0] == "video_similarity"


def test_what_is_given_stands_in_its_column_and_the_rest_is_missing():
    features = assemble_features(
        {
            "video_similarity": [0.5, 0.2, None],
            "lexical_rank": np.array([2, np.nan, 1]),
            "log_duration": 3,
        },
        num_candidates=3,
    )
    assert features.shape == (3, len(FEATURE_NAMES))
    assert features.dtype == np.float32
    np.testing.assert_allclose(column(features, "video_similarity"), [0.5, 0.2, np.nan])
    np.testing.assert_allclose(column(features, "video_similarity_behind"), [0, 0.3, np.nan])
    np.testing.assert_allclose(column(features, "lexical_rank"), [2, np.nan, 1])
    np.testing.assert_allclose(column(features, "log_duration"), [3, 3, 3])
    given = {"video_similarity", "video_similarity_behind", "lexical_rank", "log_duration"}
    rest = [position for position, name in enumerate(FEATURE_NAMES) if name not in given]
    assert np.isnan(features[:, rest]).all()


def test_query_without_candidates_has_no_rows():
    assert assemble_features({"lexical": []}, num_candidates=0).shape == (0, len(FEATURE_NAMES))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"bm25": [1, 2]}, "feature 'bm25' is unknown: must be of video_similarity"),
        ({"lexical_behind": [1, 2]}, "feature 'lexical_behind' is unknown"),
        ({"lexical": [1]}, r"feature lexical is \(1,\): must be \(2,\)"),
        ({"lexical": [1, np.inf]}, "holds infinite values"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        assemble_features(columns, num_candidates=2)
