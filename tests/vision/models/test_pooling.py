import json
import math

import pytest
import torch
from torch.nn import functional as F

from reelseek.vision import POOLING_KINDS, make_pooling, mean_pool
from reelseek.vision.models.pooling import AttentionPooling, TemporalTransformer

DIM = 16
OPTIONS = {
    "mean": {"kind": "mean"},
    "transformer": {"kind": "transformer", "num_layers": 2, "num_heads": 4, "max_frames": 8},
    "attention": {"kind": "attention", "hidden_dim": 12},
}
LEARNED = ("transformer", "attention")


@pytest.fixture(autouse=True)
def one_thread():
    """Of matrices as small as these, several threads make slow work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def embeddings(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def start(kind):
    torch.manual_seed(0)
    return make_pooling(OPTIONS[kind], embedding_dim=DIM).eval()


def trained(kind):
    """With weights that are far from those it started with."""
    pooling = start(kind)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pooling


def test_mean_of_two_orthogonal_frames_lies_between_them():
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(mean_pool(frames), torch.tensor([0.5**0.5, 0.5**0.5]))


def test_one_frame_is_itself():
    frame = F.normalize(torch.randn(1, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(mean_pool(frame), frame[0])


def test_batch_is_pooled_video_by_video_and_normalised():
    frames = F.normalize(
        torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    pooled = mean_pool(frames)
    assert pooled.shape == (2, 3, 8)
    torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(pooled[1, 2], mean_pool(frames[1, 2]))


def test_similarity_to_a_query_is_the_mean_similarity_up_to_its_length():
    frames = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=-1)
    query = F.normalize(torch.randn(8, generator=torch.Generator().manual_seed(2)), dim=-1)
    length = float(sum(frames).norm()) / 6
    expected = sum(float(frame @ query) for frame in frames) / 6 / length
    assert float(mean_pool(frames) @ query) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("num_frames", [None, [8, 1, 5]], ids=["all frames", "padded"])
def test_transformer_starts_as_exactly_the_mean(num_frames):
    frames = embeddings(3, 8, DIM)
    num_frames = None if num_frames is None else torch.tensor(num_frames)
    assert torch.equal(start("transformer")(frames, num_frames), mean_pool(frames, num_frames))


@pytest.mark.parametrize("num_frames", [None, [8, 1, 5]], ids=["all frames", "padded"])
def test_attention_starts_as_the_mean(num_frames):
    frames = embeddings(3, 8, DIM)
    num_frames = None if num_frames is None else torch.tensor(num_frames)
    pooled = start("attention")(frames, num_frames)
    torch.testing.assert_close(pooled, mean_pool(frames, num_frames), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", LEARNED)
def test_trained_pooling_is_no_longer_the_mean(kind):
    frames = embeddings(3, 8, DIM)
    similarity = (trained(kind)(frames) * mean_pool(frames)).sum(dim=-1)
    assert (
        float(similarity.detach().max()) < 0.999
    )  # else what follows would hold of the mean alone


@pytest.mark.parametrize("kind", POOLING_KINDS)
@pytest.mark.parametrize("weights", [start, trained], ids=["start", "trained"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
@pytest.mark.parametrize("lengths", [[8, 1, 5, 3], [20, 3, 8, 9, 13]], ids=["short", "long"])
@pytest.mark.parametrize("garbage_size", [0.0, 1.0, 1e6])
def test_video_in_a_padded_batch_is_pooled_as_it_is_alone(
    kind, weights, mode, lengths, garbage_size
):
    pooling = weights(kind)
    videos = [embeddings(length, DIM, seed=length) for length in lengths]
    generator = torch.Generator().manual_seed(2)
    batch = garbage_size * torch.randn(len(videos), max(lengths), DIM, generator=generator)
    for row, video in zip(batch, videos, strict=True):
        row[: len(video)] = video
    with mode():
        together = pooling(batch, torch.tensor(lengths))
        alone = torch.cat([pooling(video.unsqueeze(0)) for video in videos])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(videos)))


@pytest.mark.parametrize("kind", POOLING_KINDS)
def test_embedding_is_the_same_with_and_without_gradients(kind):
    pooling, frames = trained(kind), embeddings(3, 8, DIM)  # PyTorch takes another path there
    with torch.inference_mode():
        expected = pooling(frames, torch.tensor([8, 2, 5]))
    torch.testing.assert_close(
        pooling(frames, torch.tensor([8, 2, 5])), expected, rtol=0, atol=2e-6
    )


def test_transformer_sees_the_order_of_frames_and_attention_does_not():
    frames = embeddings(1, 8, DIM)
    backwards = frames.flip(1)
    transformer, attention = trained("transformer"), trained("attention")
    assert not torch.allclose(transformer(frames), transformer(backwards), atol=1e-3)
    torch.testing.assert_close(attention(frames), attention(backwards), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("num_frames", "chosen"),
    [
        (12, [1, 4, 7, 10]),  # parts of 3 frames: middles 1.5, 4.5, 7.5, 10.5
        (8, [1, 3, 5, 7]),
        (6, [0, 2, 3, 5]),  # middles 0.75, 2.25, 3.75, 5.25
        (5, [0, 1, 3, 4]),
        (4, [0, 1, 2, 3]),
        (3, [0, 1, 2]),
        (1, [0]),
    ],
)
def test_long_video_is_thinned_to_the_middles_of_equal_parts(num_frames, chosen):
    pooling = TemporalTransformer(12, num_layers=1, num_heads=2, max_frames=4)
    frames = torch.eye(12).expand(2, -1, -1)
    pooled = pooling(frames, torch.tensor([num_frames, 12]))
    expected = torch.zeros(12)
    expected[chosen] = 1 / len(chosen) ** 0.5
    torch.testing.assert_close(pooled[0], expected)
    assert pooled[1].nonzero().flatten().tolist() == [1, 4, 7, 10]
    if num_frames == 12:
        assert torch.equal(pooling(frames), pooled)


def test_attention_weighs_frames_as_in_the_equation():
    pooling = AttentionPooling(2, hidden_dim=2)
    with torch.no_grad():
        pooling.hidden.weight.copy_(torch.tensor([[2.0, 0.0], [1.0, -1.0]]))
        pooling.hidden.bias.copy_(torch.tensor([0.5, 0.0]))
        pooling.score.weight.copy_(torch.tensor([[1.0, 3.0]]))
    frames = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    scores = [
        math.exp(math.tanh(2 * float(x) + 0.5) + 3 * math.tanh(float(x - y))) for x, y in frames
    ]
    summed = sum(score * frame for score, frame in zip(scores, frames, strict=True))
    torch.testing.assert_close(pooling(frames[None])[0], summed / summed.norm())


@pytest.mark.parametrize("kind", LEARNED)
def test_gradients_reach_every_parameter(kind):
    pooling = trained(kind)
    (pooling(embeddings(3, 8, DIM), torch.tensor([8, 6, 3])) * embeddings(3, DIM)).sum().backward()
    for name, parameter in pooling.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 1e-7, name


@pytest.mark.parametrize(
    ("kind", "zero"), [("transformer", ["out.weight", "out.bias"]), ("attention", ["score.weight"])]
)
def test_gradients_reach_what_starts_at_zero(kind, zero):
    pooling = start(kind)
    (pooling(embeddings(3, 8, DIM), torch.tensor([8, 6, 3])) * embeddings(3, DIM)).sum().backward()
    parameters = dict(pooling.named_parameters())
    for name in zero:
        assert not parameters[name].any(), name
        assert float(parameters[name].grad.abs().max()) > 1e-7, name


@pytest.mark.parametrize("kind", POOLING_KINDS)
def test_options_and_weights_make_the_same_pooling_again(kind):
    pooling = trained(kind)
    options = json.loads(json.dumps(pooling.options()))
    assert options == OPTIONS[kind]
    again = make_pooling(options, embedding_dim=DIM).eval()
    again.load_state_dict(pooling.state_dict())
    frames, num_frames = embeddings(2, 11, DIM), torch.tensor([11, 4])
    assert torch.equal(again(frames, num_frames), pooling(frames, num_frames))


@pytest.mark.parametrize("kind", LEARNED)
def test_kind_alone_is_enough(kind):
    pooling = make_pooling({"kind": kind}, embedding_dim=DIM)
    assert make_pooling(pooling.options(), embedding_dim=DIM).options() == pooling.options()
    assert pooling.options().keys() == OPTIONS[kind].keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "maen"}, "pooling is 'maen': must be one of mean, transformer, attention"),
        ({}, "pooling is '': must be one of"),
        ({"kind": "mean", "num_layers": 2}, "pooling=mean with .*num_layers"),
        ({"kind": "transformer", "hidden_dim": 2}, "pooling=transformer with .*hidden_dim"),
        ({"kind": "attention", "num_heads": 2}, "pooling=attention with .*num_heads"),
        ({"kind": "transformer", "num_heads": 5}, "pooling=transformer with .*5.*divisible"),
    ],
    ids=str,
)
def test_what_makes_no_pooling_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_pooling(options, embedding_dim=DIM)
