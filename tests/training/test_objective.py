import math

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F

from reelseek.training.objective import MultiPositiveClipLoss, MultiPositiveSigLipLoss, positives_of

SCALE, BIAS = torch.tensor(7.0), torch.tensor(-3.0)
# Of four pairs. None alike; the last is of the first one's video; has the first one's caption.
DISTINCT = (torch.arange(4), torch.arange(4))
SAME_VIDEO = (torch.tensor([0, 1, 2, 0]), torch.arange(4))
SAME_CAPTION = (torch.arange(4), torch.tensor([0, 1, 2, 0]))
# 0 and 1 share a video, 1 and 2 a caption, 0 and 2 nothing: not transitive.
CHAIN = (torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2]))


def embeddings(num_pairs=4, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = F.normalize(torch.randn(2, num_pairs, 8, generator=generator), dim=-1)
    return drawn[0].requires_grad_(), drawn[1].requires_grad_()


def logits_by_hand(videos, texts):
    return [[float(SCALE) * float(v @ t) for t in texts.detach()] for v in videos.detach()]


def are_positives(ids, i, j):
    return bool(ids[0][i] == ids[0][j] or ids[1][i] == ids[1][j])


def infonce_by_loops(logits, ids, *, smoothing=0.0):
    """The mean over rows and columns of the cross-entropy with equally shared targets."""
    num = len(logits)
    total = 0.0
    for direction in (logits, [list(column) for column in zip(*logits, strict=True)]):
        for i, row in enumerate(direction):
            log_sum = math.log(sum(math.exp(logit) for logit in row))
            positives = [j for j in range(num) if are_positives(ids, i, j)]
            for j, logit in enumerate(row):
                target = (1 - smoothing) * (j in positives) / len(positives) + smoothing / num
                total -= target * (logit - log_sum)
    return total / num / 2


def sigmoid_by_loops(logits, ids):
    total = 0.0
    for i, row in enumerate(logits):
        for j, logit in enumerate(row):
            sign = 1 if are_positives(ids, i, j) else -1
            total += math.log(1 + math.exp(-sign * (logit + float(BIAS))))
    return total / len(logits)


def test_with_one_positive_each_it_is_open_clips_clip_loss():
    videos, texts = embeddings()
    ours = MultiPositiveClipLoss()(videos, texts, SCALE, None, DISTINCT)
    theirs = ClipLoss()(videos, texts, SCALE)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, (videos, texts)),
        torch.autograd.grad(theirs, (videos, texts)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_with_one_positive_each_it_is_open_clips_siglip_loss():
    videos, texts = embeddings()
    ours = MultiPositiveSigLipLoss()(videos, texts, SCALE, BIAS, DISTINCT)
    theirs = SigLipLoss()(videos, texts, SCALE, BIAS)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours, (videos, texts)),
        torch.autograd.grad(theirs, (videos, texts)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("ids", [DISTINCT, SAME_VIDEO, SAME_CAPTION, CHAIN])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_infonce_by_loops(ids, smoothing):
    videos, texts = embeddings()
    loss = MultiPositiveClipLoss(label_smoothing=smoothing)(videos, texts, SCALE, None, ids)
    expected = infonce_by_loops(logits_by_hand(videos, texts), ids, smoothing=smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ids", [DISTINCT, SAME_VIDEO, SAME_CAPTION, CHAIN])
def test_sigmoid_by_loops(ids):
    videos, texts = embeddings()
    loss = MultiPositiveSigLipLoss()(videos, texts, SCALE, BIAS, ids)
    expected = sigmoid_by_loops(logits_by_hand(videos, texts), ids)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ids", [SAME_VIDEO, SAME_CAPTION])
def test_second_right_answer_is_pulled_near_where_clip_loss_pushes_it_away(ids):
    videos, texts = embeddings()

    def pull(loss):
        """How much a step against the gradient adds to the similarity of video 0 and text 3, and
        of video 3 and text 0, by way of the text."""
        (gradient,) = torch.autograd.grad(loss, texts)
        return -(gradient[3] @ videos[0]).item(), -(gradient[0] @ videos[3]).item()

    # Orthogonal, so that no other pair has a part in it.
    with torch.no_grad():
        videos.copy_(torch.eye(8)[:4])
        texts.copy_(torch.eye(8)[4:])
    ours = MultiPositiveClipLoss()(videos, texts, SCALE, None, ids)
    sigmoid = MultiPositiveSigLipLoss()(videos, texts, SCALE, BIAS, ids)
    assert min(pull(ours)) > 0
    assert min(pull(sigmoid)) > 0
    assert max(pull(ClipLoss()(videos, texts, SCALE))) < 0
    assert max(pull(SigLipLoss()(videos, texts, SCALE, BIAS))) < 0


@pytest.mark.parametrize("ids", [SAME_VIDEO, SAME_CAPTION])
def test_a_model_that_finds_both_right_answers_is_not_punished_for_it(ids):
    """Pairs 0 and 3 have the same embeddings, as a perfect model gives them."""
    perfect = torch.eye(8)[[0, 1, 2, 0]]
    scale = torch.tensor(100.0)
    # Half of the target each: ln 2 is what is left where two answers are equally right.
    infonce = MultiPositiveClipLoss()(perfect, perfect, scale, None, ids)
    assert float(infonce) == pytest.approx(math.log(2) / 2)
    bias = torch.tensor(-50.0)
    assert float(MultiPositiveSigLipLoss()(perfect, perfect, scale, bias, ids)) < 1e-6
    assert float(SigLipLoss()(perfect, perfect, scale, bias)) == pytest.approx(25.0)
    moved = perfect.clone().requires_grad_()
    MultiPositiveClipLoss()(moved, perfect, scale, None, ids).backward()
    torch.testing.assert_close(moved.grad, torch.zeros(4, 8))


def test_order_of_the_pairs_does_not_matter():
    videos, texts = embeddings()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = (CHAIN[0][order], CHAIN[1][order])
    for loss in (MultiPositiveClipLoss(), MultiPositiveSigLipLoss()):
        torch.testing.assert_close(
            loss(videos[order], texts[order], SCALE, BIAS, shuffled),
            loss(videos, texts, SCALE, BIAS, CHAIN),
        )


def test_infonce_leaves_a_bias_as_it_is():
    videos, texts = embeddings()
    loss = MultiPositiveClipLoss()
    assert torch.equal(
        loss(videos, texts, SCALE, BIAS, CHAIN), loss(videos, texts, SCALE, None, CHAIN)
    )


def test_positives_share_their_video_or_their_caption():
    rows = (torch.tensor([0, 1]), torch.tensor([5, 6]))
    columns = (torch.tensor([0, 2, 3]), torch.tensor([9, 6, 8]))
    assert positives_of(rows, columns).tolist() == [[True, False, False], [False, True, False]]


def test_a_number_of_a_video_is_not_one_of_a_caption():
    """Video 1 and caption 1 are different things."""
    first, second = (torch.tensor([0]), torch.tensor([1])), (torch.tensor([1]), torch.tensor([0]))
    assert not positives_of(first, second).any()
