import copy

import pytest
import torch
from torch import nn

from reelseek.training.text.dropout import RowDropout, keep_mask
from tests.training.tiny_run import make_model, tokenize

SEEDS = torch.arange(4000) * 1_000_003


def test_mask_keeps_its_fraction_everywhere():
    mask = keep_mask(SEEDS, (4000, 6, 8), layer=0, fraction=0.3).float()
    assert mask.mean() == pytest.approx(0.7, abs=0.005)
    # Of each place over the rows: five standard errors of a binomial.
    assert (mask.mean(dim=0) - 0.7).abs().max() < 5 * (0.21 / 4000) ** 0.5


def test_masks_of_rows_places_and_layers_are_independent():
    mask = keep_mask(SEEDS, (4000, 8), layer=0, fraction=0.5).float() - 0.5
    other = keep_mask(SEEDS, (4000, 8), layer=1, fraction=0.5).float() - 0.5
    limit = 5 * 0.25 / 4000**0.5
    products = mask.T @ mask / 4000
    assert (products - torch.diag(products.diag())).abs().max() < limit
    assert (mask.T @ other / 4000).abs().max() < limit
    assert (mask[:-1] * mask[1:]).mean(dim=0).abs().max() < limit


def test_mask_of_a_row_depends_on_its_seed_alone():
    whole = keep_mask(SEEDS[:6], (6, 5, 7), layer=2, fraction=0.4)
    part = keep_mask(SEEDS[3:6], (3, 4, 7), layer=2, fraction=0.4)
    assert torch.equal(whole[3:, :4], part)
    assert not torch.equal(whole[0], whole[1])


def test_dropped_values_are_scaled_so_that_the_mean_stays():
    tower = nn.Sequential(nn.Dropout(0.9)).eval()
    dropout = RowDropout(tower, 0.25)
    ones = torch.ones(4000, 50)
    assert torch.equal(tower(ones), ones)
    with dropout.rows(SEEDS):
        values = tower(ones)
    assert values.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert values.mean() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(tower(ones), ones)


@pytest.mark.parametrize("custom_text", [False, True])
def test_towers_of_clip_without_dropout_have_some(custom_text):
    clip = make_model(custom_text=custom_text).clip
    tokens = tokenize(["a dog", "a dog", "two cats"])
    plain = clip.encode_text(tokens)
    dropout = RowDropout(clip, 0.2)
    with dropout.rows(torch.tensor([5, 6, 5])):
        first, second, _ = clip.encode_text(tokens)
    with dropout.rows(torch.tensor([6, 5])):
        swapped = clip.encode_text(tokens[:2])
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, plain[0])
    torch.testing.assert_close(swapped, torch.stack([second, first]))
    assert torch.equal(copy.deepcopy(clip).encode_text(tokens), plain)
