"""Queries -> the vectors of `word_vectors`, trained in PyTorch.

A word is learned against those that begin with the same letter, as it will be asked for. Where a
text model is given, the embeddings of its tokens are part of each word's vectors: words that the
log has seldom or never are then near to those it has often.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reelseek.recommendation.completion.word_counts import MAX_EARLIER, WordedQuery, WordTables
from reelseek.recommendation.completion.word_vectors import PLACES, Embed, WordVectors

_DIM = 64
_EPOCHS = 4
_BATCH = 256
_DROPOUT = 0.5
_LEARNING_RATE = 3e-3
_MAX_WORDS = 60_000
_MAX_QUERIES = 300_000  # the last ones
_MIN_GROUP = 64  # words to learn with the same first letter; others are learned beside each other


def train_word_vectors(
    tables: WordTables, queries: Sequence[WordedQuery], *, embed: Embed | None = None, seed: int = 0
) -> WordVectors | None:
    """Trains on the words after the first of each query; None where there is nothing to learn.

    Args:
        tables: counted from the same queries.
    """
    ids = _words_with_vectors(tables)
    place_of = {int(word_id): place for place, word_id in enumerate(ids)}
    groups = _examples(tables, queries[-_MAX_QUERIES:], place_of)
    if not groups:
        return None
    embedded = None
    if embed is not None:
        embedded = torch.from_numpy(embed([tables.vocabulary[word_id] for word_id in ids]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _LogBilinear(len(ids), embedded, bias=_log_frequencies(tables, ids))
        _train(model, groups, np.random.default_rng(seed))
    return model.exported(ids)


def _words_with_vectors(tables: WordTables) -> np.ndarray:
    """`(W,)` int32 ids: the words of the log, and the most common of the language."""
    weights = tables.first + tables.later
    rank = weights + 1e-6 * tables.background
    best = np.argsort(-rank, kind="stable")[:_MAX_WORDS]
    return np.sort(best[rank[best] > 0]).astype(np.int32)


def _log_frequencies(tables: WordTables, ids: np.ndarray) -> torch.Tensor:
    mixed = 0.8 * tables.later[ids] + 0.2 * tables.background[ids]
    return torch.from_numpy(np.log(mixed + 1e-9).astype(np.float32))


class _Group:
    """Examples that are learned against the same words: `first` to below `last`.

    Attributes:
        before: `(n, MAX_EARLIER)` int64 places of the words before, the last first; W where there
            is none that has vectors, W + 1 where the query had not begun.
        targets: `(n,)` int64.
    """

    def __init__(self, examples: list[tuple[list[int], int]], first: int, last: int) -> None:
        self.before = torch.tensor([before for before, _ in examples])
        self.targets = torch.tensor([target for _, target in examples])
        self.first, self.last = first, last


def _examples(
    tables: WordTables, queries: Sequence[WordedQuery], place_of: dict[int, int]
) -> list[_Group]:
    unknown, none = len(place_of), len(place_of) + 1
    by_letter: dict[str, list[tuple[list[int], int]]] = defaultdict(list)
    for query in queries:
        places = [place_of.get(tables.vocabulary.id_of(word), unknown) for word in query.words]
        for place, target in enumerate(places):
            if place and target != unknown and len(query.words[place]) > 1:
                before = places[max(0, place - MAX_EARLIER) : place][::-1]
                padded = before + [none] * (MAX_EARLIER - len(before))
                by_letter[query.words[place][0]].append((padded, target))
    ids = np.array(list(place_of), dtype=np.int64)
    groups, rest = [], []
    for letter, examples in by_letter.items():
        if len(examples) < _MIN_GROUP:
            rest += examples
            continue
        first, last = ids.searchsorted(tables.vocabulary.range_of(letter)).tolist()
        groups.append(_Group(examples, first, last))
    if rest:
        groups.append(_Group(rest, 0, 0))
    return groups


class _LogBilinear(nn.Module):
    def __init__(
        self, num_words: int, embedded: torch.Tensor | None, *, bias: torch.Tensor
    ) -> None:
        super().__init__()
        self.inputs = nn.Embedding(num_words + 2, _DIM, padding_idx=num_words + 1)
        self.outputs = nn.Embedding(num_words, _DIM)
        nn.init.normal_(self.inputs.weight, std=0.02)
        nn.init.normal_(self.outputs.weight, std=0.02)
        with torch.no_grad():
            self.inputs.weight[-1] = 0
        self.embedded = embedded
        if embedded is not None:
            self.project_in = nn.Linear(embedded.shape[1], _DIM)
            self.project_out = nn.Linear(embedded.shape[1], _DIM)
        self.places = nn.Parameter(0.5 * torch.eye(_DIM).repeat(PLACES, 1, 1))
        self.hidden = nn.Sequential(
            nn.Linear(_DIM, _DIM), nn.GELU("tanh"), nn.Dropout(_DROPOUT), nn.Linear(_DIM, _DIM)
        )
        self.dropout = nn.Dropout(_DROPOUT)
        self.bias = nn.Parameter(bias - bias.max())

    def context(self, before: torch.Tensor) -> torch.Tensor:
        """`(B, MAX_EARLIER)` places -> `(B, D)`."""
        num_words = self.outputs.num_embeddings
        vectors = self.inputs(before)
        if self.embedded is not None:
            is_word = (before < num_words).unsqueeze(-1)
            known = self.embedded[before.clamp(max=num_words - 1)]
            vectors = vectors + self.project_in(known) * is_word
        summed = vectors[:, 0] @ self.places[0] + vectors[:, 1] @ self.places[1]
        there = (before[:, 2:] <= num_words).unsqueeze(-1)
        mean = (vectors[:, 2:] * there).sum(1) / there.sum(1).clamp(min=1)
        summed = summed + mean @ self.places[2]
        return self.dropout(summed + self.hidden(self.dropout(summed)))

    def output(self, words: slice | torch.Tensor) -> torch.Tensor:
        vectors = self.outputs.weight[words]
        if self.embedded is not None:
            vectors = vectors + self.project_out(self.embedded[words])
        return vectors

    def loss(self, group: _Group, chosen: torch.Tensor) -> torch.Tensor:
        context, targets = self.context(group.before[chosen]), group.targets[chosen]
        words: slice | torch.Tensor
        if group.last > group.first:
            words, targets = slice(group.first, group.last), targets - group.first
        else:  # letters that few words begin with
            words, targets = torch.unique(targets, return_inverse=True)
        return F.cross_entropy(context @ self.output(words).T + self.bias[words], targets)

    @torch.no_grad()
    def exported(self, ids: np.ndarray) -> WordVectors:
        self.eval()
        num_words = len(ids)
        inputs = self.inputs.weight[: num_words + 1].clone()
        if self.embedded is not None:
            inputs[:num_words] += self.project_in(self.embedded)
        first, _, _, second = self.hidden
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        tensors = {
            "inputs": inputs, "places": self.places,
            "hidden_1": first.weight.T, "bias_1": first.bias,
            "hidden_2": second.weight.T, "bias_2": second.bias,
            "outputs": self.output(slice(0, num_words)), "bias": self.bias,
        }  # fmt: skip
        return WordVectors(
            ids, **{name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
        )


def _train(model: _LogBilinear, groups: list[_Group], draws: np.random.Generator) -> None:
    num_batches = sum(-(-len(group.targets) // _BATCH) for group in groups)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=max(2, _EPOCHS * num_batches)
    )
    model.train()
    for _ in range(_EPOCHS):
        batches = [
            (group, chosen)
            for group in groups
            for chosen in torch.randperm(len(group.targets)).split(_BATCH)
        ]
        for number in draws.permutation(len(batches)).tolist():
            optimizer.zero_grad()
            model.loss(*batches[number]).backward()
            optimizer.step()
            schedule.step()
