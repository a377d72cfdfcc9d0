import torch

from reelseek.training.text.masking import IGNORED, Masking
from reelseek.training.text.tokens import Vocabulary

VOCABULARY = Vocabulary(size=1000, mask_id=4, special_ids=(0, 1, 2, 3, 4))
MASKING = Masking(VOCABULARY, 0.15)


def rows(num_rows, num_words):
    """[CLS], words, [SEP] and padding."""
    words = torch.randint(
        5, 1000, (num_rows, num_words), generator=torch.Generator().manual_seed(0)
    )
    edge = torch.ones(num_rows, 1, dtype=torch.int64)
    return torch.cat([2 * edge, words, 3 * edge, 0 * edge], dim=1)


def test_fates_of_the_chosen_tokens():
    tokens = rows(2000, 20)
    masked, targets = MASKING(tokens, range(2000))
    chosen = targets != IGNORED
    assert (chosen.sum(dim=1) == 3).all()  # 15 % of 20
    assert torch.equal(targets[chosen], tokens[chosen])
    assert torch.equal(masked[~chosen], tokens[~chosen])
    hidden = (masked[chosen] == 4).float().mean()
    same = (masked[chosen] == tokens[chosen]).float().mean()
    assert abs(hidden - 0.8) < 0.02
    assert abs(same - 0.1) < 0.02
    assert not chosen[:, [0, 21, 22]].any()
    assert (chosen[:, 1:21].float().mean(dim=0) - 0.15).abs().max() < 0.04


def test_choice_depends_on_the_seed_alone():
    tokens = rows(6, 9)
    masked, targets = MASKING(tokens, [7, 8, 9, 7, 8, 9])
    again, _ = MASKING(tokens[2:3], [9])
    assert torch.equal(again[0], masked[2])
    places = [tuple((row != IGNORED).nonzero()[:, 0].tolist()) for row in targets]
    assert places[:3] == places[3:]


def test_short_texts_hide_one_token_and_texts_without_words_none():
    tokens = torch.tensor([[2, 9, 3], [2, 1, 3]])
    _, targets = MASKING(tokens, [0, 0])
    assert targets.tolist() == [[IGNORED, 9, IGNORED], [IGNORED] * 3]
