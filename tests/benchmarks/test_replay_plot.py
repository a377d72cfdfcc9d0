import numpy as np

from benchmarks.replay_plot import auc_by_span


def test_auc_of_each_span_by_hand():
    time_ms = np.array([0, 10, 20, 100, 110, 250, 260])
    labels = np.array([1.0, 0, 1, 0, 1, 1, 1])
    rising, falling = np.arange(7.0), -np.arange(7.0)
    begins, values = auc_by_span(time_ms, labels, [rising, falling], span_ms=100, min_events=2)
    # The third span has one label only.
    assert begins.tolist() == [0, 100]
    np.testing.assert_allclose(values, [[0.5, 0.5], [1.0, 0.0]])


def test_spans_of_few_events_are_left_out():
    begins, values = auc_by_span(
        np.array([0, 1, 200]), np.array([0.0, 1, 1]), [np.arange(3.0)], span_ms=100, min_events=3
    )
    assert not len(begins) and values.shape == (0, 1)
