"""Which tower encodes, after the first frames."""

import logging

import pytest
import torch
from torch.nn import functional as F

from reelseek.vision.models.self_check import SelfCheckedTower


def exact(pixels):
    return F.normalize(pixels.float().flatten(1), dim=-1)


def off_by(cosine, *, every=1):
    """A tower whose every n-th embedding has this cosine with the exact one."""

    def encode(pixels):
        embeddings = exact(pixels)
        other = embeddings.roll(1, dims=-1)
        other = F.normalize(other - (other * embeddings).sum(-1, keepdim=True) * embeddings, dim=-1)
        changed = cosine * embeddings + (1 - cosine**2) ** 0.5 * other
        is_changed = torch.arange(len(pixels)) % every == 0
        return torch.where(is_changed[:, None], changed, embeddings)

    return encode


def frames(count):
    return torch.randint(1, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(
    ("approximate", "is_rejected"),
    [
        (off_by(0.99), False),
        (off_by(0.98), True),
        (off_by(0.5, every=32), False),  # one frame in 32 may be far off,
        (off_by(0.5, every=16), True),  # but not one in 16
        (lambda pixels: exact(pixels) * float("nan"), True),
    ],
)
def test_what_agrees_on_the_first_frames_is_used_from_then_on(approximate, is_rejected, caplog):
    tower = SelfCheckedTower(approximate, exact, name="int8")
    with caplog.at_level(logging.WARNING):
        first = [tower(frames(32)) for _ in range(2)]
        pixels = frames(8)
        later = [tower(pixels) for _ in range(3)]
    for embeddings in first:
        assert torch.equal(embeddings, exact(frames(32)))
    used = exact if is_rejected else approximate
    assert all(torch.equal(embeddings, used(pixels)) for embeddings in later)
    assert tower.is_rejected == is_rejected
    assert [r.getMessage()[:26] for r in caplog.records] == ["precision=int8 is not used"] * (
        is_rejected
    )


def test_tower_that_is_not_used_is_freed():
    class Tower:
        def __call__(self, pixels):
            return exact(pixels)

    import weakref

    approximate, reference = Tower(), Tower()
    is_alive = weakref.ref(reference)
    tower = SelfCheckedTower(approximate, reference, name="int8")
    del reference
    tower(frames(32))
    assert is_alive() is not None
    tower(frames(32))
    assert is_alive() is None
