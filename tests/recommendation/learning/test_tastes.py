import numpy as np
import pytest

from reelseek.recommendation.learning.content_codes import (
    CODE_LENGTH,
    content_codes,
    directions_of,
)
from reelseek.recommendation.learning.row_table import prepared_rows
from reelseek.recommendation.learning.state import decode, encode
from reelseek.recommendation.learning.tastes import NUM_TASTE_FEATURES, Tastes

DAY_MS = 86_400_000.0
HALF_LIVES_MS = [30 * DAY_MS, DAY_MS / 24]


def codes_of(num, *, seed=0, dim=96):
    return content_codes(np.random.default_rng(seed).normal(size=(num, dim)))


def drawn_log(num, *, num_users=6, num_videos=30, seed=1):
    """Users, videos, times in order, and residuals of the heads."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(int(3 * DAY_MS), size=num)).astype(np.float64)
    users = [f"u{user}" for user in rng.integers(num_users, size=num)]
    return users, rng.integers(num_videos, size=num), times, rng.normal(size=(num, 3))


def learned(log, codes, *, batch=7, max_users=100, tastes=None):
    users, videos, times, residuals = log
    tastes = tastes or Tastes(max_users=max_users)
    for begin in range(0, len(users), batch):
        part = slice(begin, begin + batch)
        tastes.add(
            users[part],
            [codes[video] for video in videos[part]],
            times_ms=times[part],
            residuals=residuals[part],
            now_ms=times[part][-1],
        )
    return tastes


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_features_are_those_of_the_definition(batch):
    codes, log = codes_of(30), drawn_log(200)
    tastes = learned(log, codes, batch=batch)
    now = log[2][-1] + 1e6
    directions = directions_of(codes)
    found = tastes.features(["u2"] * 30, codes, np.full(30, now))
    own = [i for i, user in enumerate(log[0]) if user == "u2"]
    expected = []
    for half_life in HALF_LIVES_MS:
        left = [2.0 ** (-(now - log[2][i]) / half_life) for i in own]
        for head in range(2):
            taste = sum(
                each * log[3][i, head] * directions[log[1][i]]
                for i, each in zip(own, left, strict=True)
            )
            expected.append(250 * directions @ taste / (sum(left) + 500))
    np.testing.assert_allclose(found, np.array(expected).T, rtol=1e-4, atol=1e-5)


def test_each_is_compared_alone():
    codes, log = codes_of(30), drawn_log(200)
    tastes = learned(log, codes)
    users = [f"u{number % 8}" for number in range(30)]  # two of them are not known
    now = np.full(30, log[2][-1])
    together = tastes.features(users, codes, now)
    for row in range(30):
        alone = tastes.features(users[row : row + 1], codes[row : row + 1], now[:1])
        np.testing.assert_array_equal(alone[0], together[row])
    assert not together[[6, 7]].any()


def test_a_change_of_a_label_leads_to_the_taste_of_the_right_one():
    codes, (users, videos, times, residuals) = codes_of(30), drawn_log(60)
    wrong = residuals.copy()
    wrong[10] += [1.0, 1.0, 1.0]
    right = learned((users, videos, times, residuals), codes)
    corrected = learned((users, videos, times, wrong), codes)
    for tastes, change in ((right, 0.0), (corrected, -1.0)):
        tastes.add(
            users[10:11],
            [codes[videos[10]]],
            times_ms=times[10:11],
            residuals=np.full((1, 3), change),
            now_ms=times[-1],
            num_events=0.0,
        )
    found = [
        each.features([users[10]] * 30, codes, np.full(30, times[-1]))
        for each in (right, corrected)
    ]
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_what_looks_like_what_was_watched_is_for_the_user():
    sea, beach, car, bus = content_codes(
        np.array([[1, 0, 0, 0], [1, 0.2, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0.2]])
    )
    tastes = Tastes(max_users=5)
    for code, residual in ((sea, 0.7), (car, -0.3)):
        tastes.add(
            ["ann"], [code], times_ms=np.zeros(1), residuals=np.full((1, 3), residual), now_ms=0
        )
    liked, not_liked = tastes.features(["ann"] * 2, [beach, bus], np.zeros(2))
    assert (liked > 0).all()
    assert (not_liked < 0).all()


def test_where_nothing_is_known_nothing_is_said():
    codes = codes_of(2)
    tastes = Tastes(max_users=5)
    one = {"times_ms": np.zeros(1), "residuals": np.ones((1, 3)), "now_ms": 0.0}
    tastes.add(["ann"], [b""], **one)
    assert not tastes.has("ann")
    tastes.add(["ann"], codes[:1], **one)
    assert tastes.has("ann")
    found = tastes.features(["bob", "ann"], [codes[0], b""], np.zeros(2))
    assert found.shape == (2, NUM_TASTE_FEATURES)
    assert not found.any()
    assert tastes.features([], [], np.zeros(0)).shape == (0, NUM_TASTE_FEATURES)


def test_users_are_bounded_expire_and_are_forgotten():
    codes = codes_of(30)
    log = drawn_log(300, num_users=40)
    tastes = learned(log, codes, max_users=10)
    assert len(tastes) <= 10
    assert tastes.table.num_evicted > 0
    last = log[0][-1]
    assert tastes.has(last)
    tastes.forget(lambda user: user == last)
    assert not tastes.features([last] * 30, codes, np.full(30, log[2][-1])).any()
    tastes.expire(np.inf)
    assert len(tastes) == 0
    assert not tastes.vectors.any()


def test_changes_lead_to_the_same_bits_as_the_whole():
    codes, log = codes_of(30), drawn_log(300, num_users=40)
    tastes, follower = Tastes(max_users=10), Tastes(max_users=10)
    for begin in range(0, 300, 20):
        part = [each[begin : begin + 20] for each in log]
        learned(part, codes, tastes=tastes)
        if begin == 160:
            tastes.expire(part[2][0])
        taken = decode(encode(tastes.take_rows(only_changed=True)))
        follower.restore_rows(prepared_rows(taken))
    whole = tastes.take_rows(only_changed=False)
    assert encode(follower.take_rows(only_changed=False)) == encode(whole)


def test_going_back_counts_as_a_change():
    codes, log = codes_of(30), drawn_log(200)
    tastes, follower = learned(log, codes), Tastes(max_users=100)
    follower.restore_rows(prepared_rows(decode(encode(tastes.take_rows(only_changed=True)))))
    earlier = learned([each[:60] for each in log], codes)
    expected = encode(earlier.take_rows(only_changed=False))
    tastes.become(learned([each[:60] for each in log], codes))
    follower.restore_rows(prepared_rows(decode(encode(tastes.take_rows(only_changed=True)))))
    assert encode(tastes.take_rows(only_changed=False)) == expected
    assert encode(follower.take_rows(only_changed=False)) == expected


def test_codes_keep_inner_products():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(300, 512)) + rng.normal(size=(300, 1)) * rng.normal(size=512)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = directions_of(content_codes(embeddings))
    error = (found @ found.T - embeddings @ embeddings.T)[np.triu_indices(300, 1)]
    assert np.sqrt((error**2).mean()) < 1 / np.sqrt(CODE_LENGTH)
    assert content_codes(100 * embeddings) == content_codes(embeddings)


def test_of_what_is_no_embedding_there_is_no_code():
    odd = np.zeros((4, 8))
    odd[1, 2], odd[2, 3], odd[3] = np.nan, np.inf, 1.0
    assert [len(code) for code in content_codes(odd)] == [0, 0, 0, CODE_LENGTH]
    assert not directions_of([b"", b"short"]).any()
