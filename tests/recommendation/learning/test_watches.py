import math

import numpy as np
import pytest

from reelseek.recommendation.learning.watches import (
    NUM_WATCH_FEATURES,
    Watch,
    Watches,
    content_codes,
    watch_features,
)

LENGTH = 16  # of either list


def chosen(video, *, long_view=True):
    return Watch(video, long_view, True)


def passed(video):
    return Watch(video, False, False)


def filled(watches, *, max_users=10):
    found = Watches(max_users=max_users)
    for number, (user, watch) in enumerate(watches):
        found.add(user, watch, now_ms=number)
    return found


def log_odds(rate):
    rate = min(max(rate, 0.002), 0.998)
    return math.log(rate / (1 - rate))


def expected_features(own, code, code_of):
    """By the definition, number by number."""
    known = [each for each in own if code_of(each.video)]

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    def signed(code):
        return [each - 256 if each > 127 else each for each in code]

    cosines = [cosine(signed(code), signed(code_of(each.video))) for each in known]
    found = []
    for temperature in (0.05, 0.15):
        weights = [math.exp((each - max(cosines)) / temperature) for each in cosines]
        weights = [each / sum(weights) for each in weights]
        num = 1 / sum(each**2 for each in weights)
        for labels in ([e.long_view for e in known], [e.clicked for e in known]):
            plain = sum(labels) / len(labels)
            rate = sum(w * y for w, y in zip(weights, labels, strict=True))
            found.append(log_odds((num * rate + 4 * plain) / (num + 4)) - log_odds(plain))
    return found


def codes_of(num, *, seed=0, dim=24):
    rng = np.random.default_rng(seed)
    return dict(enumerate(content_codes(rng.normal(size=(num, dim)))))


def test_features_are_those_of_the_definition():
    codes = codes_of(40)
    rng = np.random.default_rng(1)
    watches = filled(
        (user, Watch(video, bool(rng.random() < 0.3), bool(rng.random() < 0.5)))
        for user in ("ann", "bob")
        for video in rng.permutation(30).tolist()
    )
    users = ["bob", "ann", "bob", "eve", "ann"]
    asked = [35, 36, 2, 37, 38]
    found = watch_features(
        [watches.of(user) for user in users], [codes[video] for video in asked], code_of=codes.get
    )
    for row, (user, video) in enumerate(zip(users, asked, strict=True)):
        own = watches.of(user)
        expected = (
            expected_features(own, codes[video], codes.get) if own else [0] * NUM_WATCH_FEATURES
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-12)
        alone = watch_features([own], [codes[video]], code_of=codes.get)
        np.testing.assert_array_equal(alone[0], found[row])


def test_one_like_what_was_chosen_is_for_the_user():
    codes = {"sea": b"\x7f\x00", "beach": b"\x7f\x0a", "car": b"\x00\x7f", "bus": b"\x0a\x7f"}
    watches = filled([("ann", chosen("sea")), ("ann", passed("car"))])
    of_ann = watches.of("ann")
    beach, bus = watch_features([of_ann] * 2, [codes["beach"], codes["bus"]], code_of=codes.get)
    assert (beach > 0).all()
    assert (bus < 0).all()


@pytest.mark.parametrize(
    ("own", "code"),
    [
        ([], b"\x01\x02"),
        ([chosen("unknown")], b"\x01\x02"),  # what it shows is not known
        ([chosen("a"), passed("b")], b""),
        ([chosen("a"), passed("b")], b"\x01\x02\x03"),  # of another encoder
        ([chosen("a"), chosen("b")], b"\x01\x02"),  # all alike
    ],
)
def test_where_nothing_is_known_nothing_is_said(own, code):
    codes = {"a": b"\x05\x01", "b": b"\x01\x05"}
    found = watch_features([own], [code], code_of=lambda video: codes.get(video, b""))
    assert not found.any()
    assert found.shape == (1, NUM_WATCH_FEATURES)


def test_the_last_of_either_list_are_kept():
    watches = filled(
        [("ann", chosen(f"c{n}") if n % 5 == 0 else passed(f"p{n}")) for n in range(90)]
    )
    kept = [each.video for each in watches.of("ann")]
    assert [v for v in kept if v[0] == "c"] == [f"c{n}" for n in range(0, 90, 5)][-LENGTH:]
    assert [v for v in kept if v[0] == "p"] == [f"p{n}" for n in range(90) if n % 5][-LENGTH:]


def test_a_correction_changes_what_was_added():
    watches = filled([("ann", passed("a")), ("ann", passed("b"))])
    watches.correct("ann", "a", [1.0, 1.0], now_ms=5)
    assert watches.of("ann") == [chosen("a"), passed("b")]
    watches.correct("ann", "a", [-1.0, 0.0], now_ms=6)
    assert watches.of("ann") == [Watch("a", False, True), passed("b")]
    watches.correct("ann", "gone", [0.0, 0.0], now_ms=7)
    watches.correct("ann", "gone", [0.0, 1.0], now_ms=7)
    assert watches.of("ann")[-1] == Watch("gone", False, True)


def test_users_are_bounded_and_expire():
    watches = filled([(f"u{n}", chosen("a")) for n in range(20)], max_users=8)
    assert [user for user in map("u{}".format, range(20)) if watches.of(user)] == [
        f"u{n}" for n in range(12, 20)
    ]
    watches.expire(15)
    assert len(watches) == 5
    watches.forget(lambda user: user == "u19")
    assert not watches.of("u19")


def test_changes_lead_to_the_same_state():
    rng = np.random.default_rng(2)
    watches, follower = Watches(max_users=12), Watches(max_users=12)
    for step in range(400):
        user = f"u{rng.integers(20)}"
        watches.add(user, Watch(int(rng.integers(50)), bool(step % 3), False), now_ms=step)
        if step % 60 == 59:
            watches.forget(lambda each: each == "u3")
            watches.expire(step - 40)
        if step % 7 == 0:
            follower.restore(watches.take_state(only_changed=True))
    follower.restore(watches.take_state(only_changed=True))
    assert follower.take_state(only_changed=False) == watches.take_state(only_changed=False)
    assert watches.take_state(only_changed=True) == []


def test_going_back_counts_as_a_change_of_both():
    watches = filled([("ann", chosen("a")), ("bob", chosen("b"))])
    follower = Watches(max_users=10)
    follower.restore(watches.take_state(only_changed=True))
    earlier = filled([("ann", chosen("a")), ("eve", chosen("e"))])
    watches.become(earlier)
    follower.restore(watches.take_state(only_changed=True))
    expected = watches.take_state(only_changed=False)
    assert follower.take_state(only_changed=False) == expected
    assert {row[0] for row in expected} == {"ann", "eve"}


def test_codes_are_the_embeddings_but_for_their_length():
    embeddings = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    codes = np.array([np.frombuffer(each, np.int8) for each in content_codes(embeddings)], float)
    cosines = (codes * embeddings).sum(axis=1)
    cosines /= np.linalg.norm(codes, axis=1) * np.linalg.norm(embeddings, axis=1)
    assert (cosines > 0.9998).all()
    assert content_codes(100 * embeddings) == content_codes(embeddings)
    odd = np.array([[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [1.0, -1.0]])
    assert content_codes(odd) == [b"", b"", b"", bytes([127, 129])]
