import open_clip
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reelseek.text import TextEncoder, Tokenizer
from reelseek.text.token_encoding import TokenEncoder

TEXT_CFG = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION_CFG = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}


def small_clip(kind, **text_cfg):
    torch.manual_seed(0)
    return kind(embed_dim=24, vision_cfg=VISION_CFG, text_cfg={**TEXT_CFG, **text_cfg}).eval()


def tokenizer():
    return Tokenizer(open_clip.tokenizer.SimpleTokenizer(context_length=16), context_length=16)


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
@pytest.mark.parametrize("cfg", [{}, {"pool_type": "eos", "eos_id": 49407}, {"proj_bias": True}])
def test_last_token_of_clip_is_the_text_embedding(kind, cfg):
    clip = small_clip(kind, **cfg)
    sentences = ["a dog", "a cat on a red mat", "", "word " * 40]
    found = TokenEncoder(clip, tokenizer()).encode_tokens(sentences)
    whole = TextEncoder(clip, tokenizer()).encode(sentences)
    # Their words, and the token that ends them, which is pooled.
    assert [len(each) for each in found] == [3, 7, 1, 15]
    for each, embedding in zip(found, whole, strict=True):
        assert each.shape[1:] == (24,)
        assert each.dtype == torch.float32
        torch.testing.assert_close(each.norm(dim=-1), torch.ones(len(each)))
        torch.testing.assert_close(each[-1], embedding, rtol=0, atol=1e-5)


def test_words_of_a_causal_tower_do_not_depend_on_those_after_them():
    encoder = TokenEncoder(small_clip(open_clip.CLIP), tokenizer())
    short, long = encoder.encode_tokens(["a dog", "a dog runs"])
    torch.testing.assert_close(short[:2], long[:2], rtol=0, atol=1e-5)
    assert not torch.allclose(short[2], long[2], atol=1e-3)


def test_any_number_of_sentences_keeps_its_order():
    encoder = TokenEncoder(small_clip(open_clip.CLIP), tokenizer())
    names = ["dog", "red cat", "a b c"]
    found = encoder.encode_tokens([names[n % 3] for n in range(130)])
    assert [len(each) for each in found] == [[2, 3, 4][n % 3] for n in range(130)]
    torch.testing.assert_close(found[0], found[129], rtol=0, atol=1e-5)
    assert encoder.encode_tokens([]) == []


def test_tower_of_another_kind_is_refused_with_the_remedy():
    clip = nn.Module()
    clip.text = nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match=r"text tower is a Linear: .* search without token matching"
    ):
        TokenEncoder(clip, tokenizer())


@pytest.mark.model
def test_text_embedding_of_mini_points_to_the_mean_of_all_its_tokens(mini):
    of_mini = Tokenizer(mini.tokenize, context_length=mini.context_length)
    encoder = TokenEncoder(mini.clip, of_mini)
    sentence = "a dog catches a frisbee"
    (found,) = encoder.encode_tokens([sentence])
    assert found.shape == (7, 512)  # of its words, one of which is two tokens
    with torch.inference_mode():
        tokens = of_mini([sentence])[:, :9]
        assert tokens[0, -1] != 0
        features = encoder._features(tokens)[0]
    mean = F.normalize(features.mean(dim=0), dim=0)
    whole = TextEncoder(mini.clip, of_mini).encode_query(sentence)
    torch.testing.assert_close(mean, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(F.normalize(features, dim=-1)[1:-1], found, rtol=0, atol=1e-5)
