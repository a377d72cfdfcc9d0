"""Held-out texts and pairs -> how well a text tower knows them.

Retrieval asks for the other half: the first half of a text for its second, a title without its
hashtags for one of them, the first of a pair for the second.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reelseek.text.scripts import scripts_of
from reelseek.training.batches import step_seed
from reelseek.training.text.files import Entries
from reelseek.training.text.hashtags import split_hashtags
from reelseek.training.text.masking import IGNORED, Masking
from reelseek.training.text.network import TextNetwork
from reelseek.training.text.tokens import TextTokens

Embed = Callable[[Sequence[str]], torch.Tensor]

_BATCH_TEXTS = 128
_MIN_WORDS = 4  # of a text that is cut in two


@dataclass(frozen=True)
class Retrieval:
    """Queries, and the texts that answer them.

    Attributes:
        queries: different texts.
        gallery: different texts.
        answers: the places in the gallery of each query's answers, at least one.
    """

    queries: list[str]
    gallery: list[str]
    answers: list[list[int]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> "Retrieval":
        """Equal texts, whatever their case, are one."""
        queries: dict[str, str] = {}
        gallery: dict[str, str] = {}
        answers: dict[str, dict[str, None]] = {}
        for query, answer in pairs:
            queries.setdefault(query.casefold(), query)
            gallery.setdefault(answer.casefold(), answer)
            answers.setdefault(query.casefold(), {}).setdefault(answer.casefold())
        places = {key: place for place, key in enumerate(gallery)}
        return cls(
            list(queries.values()),
            list(gallery.values()),
            [[places[key] for key in answers[query]] for query in queries],
        )

    def measure(self, embed: Embed) -> dict[str, float]:
        """Returns `R@1`, `R@10` in percent, the mean reciprocal rank of the best answer in percent,
        and the numbers of queries and of gallery texts. A tie counts against the tower."""
        gallery = embed(self.gallery)
        ranks = []
        for first in range(0, len(self.queries), _BATCH_TEXTS):
            part = slice(first, first + _BATCH_TEXTS)
            scores = (embed(self.queries[part]) @ gallery.T).numpy()
            ranks += [best_rank(*each) for each in zip(scores, self.answers[part], strict=True)]
        found = np.array(ranks)
        return {
            "R@1": 100 * float((found <= 1).mean()),
            "R@10": 100 * float((found <= 10).mean()),
            "MRR": 100 * float((1 / found).mean()),
            "num_queries": len(self.queries),
            "num_gallery": len(self.gallery),
        }


def best_rank(scores: np.ndarray, answers: Sequence[int]) -> int:
    """Returns the rank of the best answer among the texts that are none, from 1."""
    is_answer = np.zeros(len(scores), bool)
    is_answer[list(answers)] = True
    return 1 + int((scores[~is_answer] >= scores[is_answer].max()).sum())


def split_in_two(text: str) -> tuple[str, str] | None:
    """Returns the first and the second half of a text's words, or of its characters where no
    blanks stand between words; None where it is too short."""
    words, blank = text.split(), " "
    if len(words) < _MIN_WORDS and not scripts_of(text).isdisjoint({"Han", "Hiragana", "Thai"}):
        words, blank = list(text), ""
    if len(words) < _MIN_WORDS:
        return None
    middle = len(words) // 2
    return blank.join(words[:middle]), blank.join(words[middle:])


def make_retrievals(texts: Entries, pairs: Entries) -> dict[str, Retrieval]:
    """Returns what can be asked of held-out entries, by name: `halves`, `hashtags`, `pairs`."""
    sentences = [text for (text,) in texts]
    titles = [split_hashtags(title) for title in sentences]
    tagged = [(text, tag) for text, tags in titles if text for tag in tags]
    asked: dict[str, list[tuple[str, str]]] = {
        "halves": list(filter(None, (split_in_two(text) for text, _ in titles))),
        "hashtags": tagged,
        "pairs": [(first, second) for first, second in pairs],
    }
    return {name: Retrieval.of(own) for name, own in asked.items() if own}


def measure_retrievals(retrievals: dict[str, Retrieval], embed: Embed) -> dict[str, Any]:
    return {name: retrieval.measure(embed) for name, retrieval in retrievals.items()}


class HeldOut:
    """Held-out texts and pairs, ready for a network.

    Args:
        texts: entries of one text.
        pairs: entries of two.
        tokens: of the model, whole.
        masking: None for no masked-language modelling.
        device: of the network.
    """

    def __init__(
        self,
        texts: Entries,
        pairs: Entries,
        *,
        tokens: TextTokens,
        masking: Masking | None,
        device: torch.device,
    ) -> None:
        guessed = [text for (text,) in texts] or [text for pair in pairs for text in pair]
        self._guessed = sorted(guessed, key=len) if masking is not None else []
        self._retrievals = make_retrievals(texts, pairs)
        self._tokens = tokens
        self._masking = masking
        self._device = device

    @torch.inference_mode()
    def measure(self, network: TextNetwork) -> dict[str, Any]:
        """Returns a dictionary for each task, and `score`: the mean reciprocal rank over all
        retrievals, or without any, the probability of a hidden token."""
        metrics = self._measure_guesses(network)

        def embed(sentences: Sequence[str]) -> torch.Tensor:
            return self._embed(network, sentences)

        retrievals = measure_retrievals(self._retrievals, embed)
        ranks = [retrieval["MRR"] for retrieval in retrievals.values()]
        score = sum(ranks) / len(ranks) if ranks else 100 / metrics["mlm"]["perplexity"]
        return metrics | retrievals | {"score": score}

    def _measure_guesses(self, network: TextNetwork) -> dict[str, Any]:
        """Hides the same tokens at each call."""
        if self._masking is None:
            return {}
        total, right, count = 0.0, 0, 0
        for first in range(0, len(self._guessed), _BATCH_TEXTS):
            sentences = self._guessed[first : first + _BATCH_TEXTS]
            seeds = [step_seed(first + place) for place in range(len(sentences))]
            masked, targets = self._masking(self._tokens(sentences), seeds)
            logits, wanted = network.guess_logits(masked.to(self._device), targets.to(self._device))
            losses = torch.nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
            total += float(losses.double().sum())
            right += int((logits.argmax(dim=1) == wanted).sum())
            count += int((targets != IGNORED).sum())
        if not count:
            return {}
        loss = total / count
        return {
            "mlm": {
                "loss": loss,
                "perplexity": math.exp(min(loss, 700.0)),
                "accuracy": 100 * right / count,
                "num_tokens": count,
            }
        }

    def _embed(self, network: TextNetwork, sentences: Sequence[str]) -> torch.Tensor:
        order = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))
        parts = [
            network.embed_texts(
                self._tokens(
                    [sentences[place] for place in order[first : first + _BATCH_TEXTS]]
                ).to(self._device)
            ).cpu()
            for first in range(0, len(order), _BATCH_TEXTS)
        ]
        embeddings = torch.cat(parts)
        return embeddings[torch.tensor(order).argsort()]
