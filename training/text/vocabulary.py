"""Words that a tokenizer lacks -> new tokens of it, and rows of the tower's embeddings."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from reelseek.text import scripts_of
from reelseek.training.text.tokens import transformers_tokenizer
from reelseek.vision import DualEncoder


def missing_words(tokenizer: Any, texts: Iterable[str], *, max_words: int) -> list[str]:
    """Returns the most frequent words that the tokenizer splits or does not know.

    A word is what the tokenizer itself cuts a text into before it looks words up: for BERT's, each
    Chinese character is one.

    Args:
        tokenizer: a fast one of transformers.
        texts: to count words in.
        max_words: number of words, of which each must occur twice.
    """
    backend = tokenizer.backend_tokenizer
    counts: Counter[str] = Counter()
    for text in texts:
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        if backend.pre_tokenizer is None:
            counts.update(text.split())
            continue
        spans = (span for _, span in backend.pre_tokenizer.pre_tokenize_str(text))
        counts.update(text[start:end].strip() for start, end in spans)
    words = sorted((word for word in counts if counts[word] > 1), key=lambda w: (-counts[w], w))
    found: list[str] = []
    for word in words:
        if len(found) == max_words:
            break
        if any(map(str.isalnum, word)) and _is_missing(tokenizer, word):
            found.append(word)
    return found


def add_words(model: DualEncoder, words: list[str]) -> DualEncoder:
    """Adds tokens to the model's tokenizer, and rows to its embeddings, in place.

    A new row is the mean of the rows of the pieces that the word had, known ones alone. A word of
    unknown pieces has a row drawn like the others (Hewitt 2021, "Initializing New Word Embeddings
    for Pretrained Language Models"), the same in every run.

    Returns:
        The model, whose scripts are those of the words besides its own.

    Raises:
        ValueError: the tokenizer or the text tower is none of transformers.
    """
    tokenizer = transformers_tokenizer(model)
    if tokenizer is None:
        raise ValueError(
            f"model={model.spec.name}: no tokens can be added to its tokenizer, which is none of "
            "transformers; set text.new_tokens=0"
        )
    from tokenizers import AddedToken

    pieces = [tokenizer.encode(word, add_special_tokens=False) for word in words]
    # A character of a script without blanks stands anywhere, another word only alone.
    added = [AddedToken(word, single_word=_has_blanks(word), normalized=True) for word in words]
    tokenizer.add_tokens(added)
    transformer = model.clip.text.transformer
    old = transformer.get_input_embeddings().weight.detach().clone()
    transformer.resize_token_embeddings(max(len(tokenizer), len(old)), mean_resizing=False)
    with torch.no_grad():
        rows = transformer.get_input_embeddings().weight
        for word, known in zip(words, pieces, strict=True):
            known = [piece for piece in known if piece != tokenizer.unk_token_id]
            number = tokenizer.convert_tokens_to_ids(word)
            rows[number] = old[known].mean(dim=0) if known else _drawn(old, seed=number)
    model.clip.text.config.vocab_size = model.clip.text.vocab_size = len(rows)
    spec = model.spec
    if spec.scripts:
        new = sorted(set().union(*map(scripts_of, words)) - set(spec.scripts))
        spec = replace(spec, scripts=(*spec.scripts, *new))
    return replace(model, spec=spec)


def _is_missing(tokenizer: Any, word: str) -> bool:
    pieces = tokenizer.encode(word, add_special_tokens=False)
    return len(pieces) > 1 or tokenizer.unk_token_id in pieces


def _has_blanks(word: str) -> bool:
    """Whether words of its script stand between blanks; those of one character need not."""
    return scripts_of(word).isdisjoint({"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer"})


def _drawn(rows: torch.Tensor, *, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows.shape[1], generator=generator)
    return rows.mean(dim=0) + noise * rows.std(dim=0)
