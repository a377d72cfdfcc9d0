import json

import numpy as np
import pytest

from reelseek.ranking import (
    TokenMatchingHead,
    TokenMatchingWeights,
    match_tokens,
    match_tokens_in_videos,
)
from reelseek.ranking.token_matching.training import train_token_matching


def unit(random, *shape):
    rows = random.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def by_definition(tokens, frames, token_weights, frame_weights):
    """In plain loops."""
    of_tokens = sum(
        weight * max(float(token @ frame) for frame in frames)
        for token, weight in zip(tokens, token_weights, strict=True)
    )
    of_frames = sum(
        weight * max(float(token @ frame) for token in tokens)
        for frame, weight in zip(frames, frame_weights, strict=True)
    )
    return (of_tokens / sum(token_weights) + of_frames / sum(frame_weights)) / 2


@pytest.fixture
def random():
    return np.random.default_rng(0)


def heads(random, dim=6, hidden=4):
    return [
        TokenMatchingHead(
            *(random.normal(size=s).astype(np.float32) for s in ((hidden, dim), hidden, hidden))
        )
        for _ in range(2)
    ]


def test_score_is_that_of_the_definition(random):
    for _ in range(10):
        tokens, frames = unit(random, 4, 6), unit(random, 7, 6)
        weights = random.uniform(size=4), random.uniform(size=7)
        assert match_tokens(
            tokens, frames, token_weights=weights[0], frame_weights=weights[1]
        ) == pytest.approx(by_definition(tokens, frames, *weights), abs=1e-6)
        assert match_tokens(tokens, frames) == pytest.approx(
            by_definition(tokens, frames, [1] * 4, [1] * 7), abs=1e-6
        )


def test_video_scores_the_same_beside_whatever_others(random):
    tokens, counts = unit(random, 9, 64), random.integers(1, 13, size=100)
    frames = unit(random, counts.sum(), 64)
    videos = np.split(frames, np.cumsum(counts)[:-1])
    weights = TokenMatchingWeights(*heads(random, dim=64, hidden=32))
    together = match_tokens_in_videos(tokens, frames, counts=counts)
    assert together.tolist() == [match_tokens(tokens, video) for video in videos]
    alone = [weights.scores(tokens, video, counts=[len(video)])[0] for video in videos]
    assert weights.scores(tokens, frames, counts=counts).tolist() == alone


def test_one_token_and_one_frame_are_their_cosine():
    assert match_tokens(np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])) == pytest.approx(0.6)


def test_many_videos_are_each_as_alone(random):
    tokens, counts = unit(random, 3, 6), [1, 5, 2, 9]
    frames = unit(random, sum(counts), 6)
    weights = TokenMatchingWeights(*heads(random))
    plain = match_tokens_in_videos(tokens, frames, counts=counts)
    learned = weights.scores(tokens, frames, counts=counts)
    ends = np.cumsum(counts)
    for n, (count, end) in enumerate(zip(counts, ends, strict=True)):
        own = frames[end - count : end]
        assert plain[n] == pytest.approx(match_tokens(tokens, own), abs=1e-6)
        assert learned[n] == pytest.approx(
            by_definition(tokens, own, weights.token.weights(tokens), weights.frame.weights(own)),
            abs=1e-6,
        )


def test_weights_are_shares_of_the_exponentials(random):
    head, _ = heads(random)
    rows = unit(random, 5, 6)
    logits = np.tanh(rows @ head.hidden.T + head.bias) @ head.score
    found = head.weights(rows, counts=np.array([2, 3]))
    for part in (slice(0, 2), slice(2, 5)):
        powers = np.exp(logits[part])
        np.testing.assert_allclose(found[part], powers / powers.sum(), rtol=1e-5)


def test_saved_weights_come_back(random, tmp_path):
    weights = TokenMatchingWeights(*heads(random), fingerprint="abc")
    weights.save(tmp_path / "new" / "folder")
    again = TokenMatchingWeights.load(tmp_path / "new" / "folder", fingerprint="abc")
    assert again.fingerprint == "abc"
    for side in ("token", "frame"):
        for name in ("hidden", "bias", "score"):
            before = getattr(getattr(weights, side), name)
            np.testing.assert_array_equal(getattr(getattr(again, side), name), before)


def test_weights_of_another_model_are_refused(random, tmp_path):
    TokenMatchingWeights(*heads(random), fingerprint="abcdefghij").save(tmp_path)
    with pytest.raises(ValueError, match=r"another model's embeddings \(fingerprint abcdefgh, not"):
        TokenMatchingWeights.load(tmp_path, fingerprint="other")


def test_damaged_weights_are_refused_in_one_line(random, tmp_path):
    TokenMatchingWeights(*heads(random)).save(tmp_path)
    path, config = tmp_path / "interaction.safetensors", tmp_path / "interaction.json"
    good, described = path.read_bytes(), config.read_text()
    entry = json.loads(described)
    states = [
        (good[:-1], described),
        (good[:40], described),
        (b"", described),
        (good, "{"),
        (good, "[]"),
        (good, json.dumps({**entry, "embedding_dim": 7})),
        (good, json.dumps({"crc32": entry["crc32"]})),
    ]
    for content, text in states:
        path.write_bytes(content)
        config.write_text(text)
        with pytest.raises(ValueError, match="holds no token matching weights") as caught:
            TokenMatchingWeights.load(tmp_path)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(ValueError, match="No such file"):
        TokenMatchingWeights.load(tmp_path)


@pytest.mark.parametrize(
    ("tokens", "frames", "options", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), {}, "of one model"),
        (np.ones((0, 3)), np.ones((2, 3)), {}, "is empty"),
        (np.ones((1, 3)), np.ones((2, 3)), {"token_weights": [-1]}, "values below 0"),
        (np.ones((1, 3)), np.ones((2, 3)), {"frame_weights": [0, 0]}, "frame_weights are all 0"),
        (np.ones((1, 3)), np.ones((2, 3)), {"frame_weights": [1]}, r"must be \(2,\)"),
    ],
)
def test_what_does_not_fit_is_refused(tokens, frames, options, message):
    with pytest.raises(ValueError, match=message):
        match_tokens(tokens, frames, **options)


@pytest.mark.parametrize("counts", [[1, 1], [3, 0], [4]])
def test_counts_that_do_not_add_up_are_refused(counts):
    with pytest.raises(ValueError, match="counts must be at least 1 each and add up to 3"):
        match_tokens_in_videos(np.ones((1, 2)), np.ones((3, 2)), counts=counts)


def noisy_pairs(random, count):
    """Captions of a word that says what is seen and two that are always the same; videos of a
    frame that shows it and three of black."""
    things, filler, black = unit(random, count, 16), unit(random, 2, 16), unit(random, 3, 16)
    tokens = [np.concatenate([thing[None], filler]) for thing in things]
    frames = [np.concatenate([thing[None], black]) for thing in things]
    return tokens, frames


def test_training_learns_what_counts_and_finds_more():
    random = np.random.default_rng(3)
    tokens, frames = noisy_pairs(random, 32)
    weights = train_token_matching(tokens, frames, hidden_dim=32, num_epochs=40, lr=1e-2)
    again = train_token_matching(tokens, frames, hidden_dim=32, num_epochs=40, lr=1e-2)
    np.testing.assert_array_equal(weights.token.score, again.token.score)
    for head, each in ((weights.token, tokens), (weights.frame, frames)):
        assert np.mean([head.weights(rows)[0] for rows in each]) > 0.65

    def margin(score):
        return np.mean([score(n, n) - score(n, (n + 1) % 32) for n in range(32)])

    learned = margin(lambda n, m: weights.scores(tokens[n], frames[m], counts=[4])[0])
    equal = margin(lambda n, m: match_tokens(tokens[n], frames[m]))
    assert learned > 1.5 * equal


def test_untrained_weights_are_equal():
    random = np.random.default_rng(0)
    tokens, frames = noisy_pairs(random, 4)
    weights = train_token_matching(tokens, frames, num_epochs=1, lr=1e-12)
    np.testing.assert_allclose(weights.token.weights(tokens[0]), np.full(3, 1 / 3), atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"num_epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"video_ids": [1]}]
)
def test_training_options_out_of_range_are_refused(options):
    tokens, frames = noisy_pairs(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="must be"):
        train_token_matching(tokens, frames, **options)
