"""Figures on public logs, which are not part of the project."""

import pytest

from reelseek.recommendation import evaluate
from tests.command_lines import run_in_this_process

pytestmark = pytest.mark.shared


def test_transitions_beat_item_knn_with_recency_on_beauty(shared_data):
    path = shared_data / "reco" / "amazon" / "Beauty.txt"
    if not path.is_file():
        pytest.skip(f"the data of Amazon are not there: {path}")

    def measured(method):
        return run_in_this_process(
            evaluate,
            "evaluate_recommenders",
            f"sequences={path}",
            f"method={method}",
            "baselines=false",
        ).metrics

    recency, transitions = measured("item_knn_recency"), measured("item_transitions")
    # The published split has 22,363 users; the last of the given items is asked.
    assert transitions["num_users"] == 22_363
    assert 0.08 < recency["R@10"] < 0.10
    assert transitions["intervals"]["NDCG@10"][0] > 1.2 * recency["NDCG@10"]
