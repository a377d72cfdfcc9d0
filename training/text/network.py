"""A model's text tower in training: batches of pairs of texts -> embeddings and further losses."""

import copy
from typing import Any

import torch
import torch.distributed.nn
from torch import nn
from torch.nn import functional as F

from reelseek.training.batches import step_seed
from reelseek.training.network import Network, Tower, TowerPlan
from reelseek.training.text.batches import TextBatch
from reelseek.training.text.dropout import RowDropout
from reelseek.training.text.masking import IGNORED
from reelseek.vision import DualEncoder

_SECOND_SEED, _MASKED_SEED = step_seed(1), step_seed(2)


class MaskedLanguageHead(nn.Module):
    """BERT's head of masked-language modelling: a layer, and the input embeddings as the decoder
    (Devlin et al. 2019, appendix A.1; tied as in Press & Wolf 2017).

    Args:
        width: of the tower's states.
        embedding_dim: of its input embeddings.
        size: of the vocabulary.
    """

    def __init__(self, width: int, embedding_dim: int, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_dim)
        self.norm = nn.LayerNorm(embedding_dim)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """`(N, width)` and `(size, embedding_dim)` to `(N, size)` logits."""
        return F.linear(self.norm(F.gelu(self.dense(states))), embeddings, self.bias)


class TextNetwork(Network):
    """A dual encoder whose text tower alone trains.

    Its temperature is its own: that between images and texts is not learned from texts.

    Args:
        model: where training starts.
        text: of the text tower.
        logit_scale: 1 / temperature to start from.
        train_logit_scale: whether it is learned.
        dropout: of the tower.
        mlm_weight: of the loss of masked-language modelling; 0 for none.
        anchor_weight: of the distance to the embeddings of the start; 0 for none.
        world_size: number of processes.
    """

    def __init__(
        self,
        model: DualEncoder,
        *,
        text: TowerPlan,
        logit_scale: float,
        train_logit_scale: bool,
        dropout: float,
        mlm_weight: float,
        anchor_weight: float,
        world_size: int = 1,
    ) -> None:
        super().__init__(model, image=TowerPlan("frozen"), text=text, pooling=model.pooling)
        self.pooling.requires_grad_(False)
        self.logit_scale.requires_grad_(False)
        self.logit_scale = nn.Parameter(torch.tensor(logit_scale).log())
        self.logit_scale.requires_grad_(train_logit_scale)
        self._mlm_weight = mlm_weight
        self._anchor_weight = anchor_weight
        self._world_size = world_size
        self.start: Tower | None = None
        if anchor_weight:
            self.start = copy.deepcopy(self.text).requires_grad_(False)
        self._dropout = RowDropout(self.text.trunk, dropout)
        self.mlm: MaskedLanguageHead | None = None
        if mlm_weight:
            size, dim = self._input_embeddings.shape
            width = self._transformer.config.hidden_size
            self.mlm = MaskedLanguageHead(width, dim, size)
        self.eval()

    def forward(self, batch: TextBatch) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Returns both halves' embeddings, `(B, D)` each, 1 / temperature, None for a bias, and,
        where gradients are asked for, the weighted sum of the further losses."""
        with self._dropout.rows(batch.seeds):
            first = self.embed_texts(batch.first)
        with self._dropout.rows(batch.seeds ^ _SECOND_SEED):
            second = self.embed_texts(batch.second)
        outputs = (first, second, self.logit_scale.exp(), None)
        if not torch.is_grad_enabled() or not (self.mlm or self.start):
            return outputs
        loss = first.new_zeros(())
        if self.mlm is not None:
            with self._dropout.rows(batch.seeds ^ _MASKED_SEED):
                losses = self.guess(batch.masked, batch.targets)
            # Of each text the mean, for that is the same however a batch is divided.
            counts = (batch.targets != IGNORED).sum(dim=1)
            rows = torch.repeat_interleave(torch.arange(len(batch), device=losses.device), counts)
            loss = loss + self._mlm_weight * (losses / counts[rows]).sum() / len(batch)
        if self.start is not None:
            with torch.no_grad():
                target = self.start(self._stripped(batch.first), are_features=False)
            loss = loss + self._anchor_weight * (1 - (first * target).sum(dim=1)).mean()
        return (*outputs, self._mean_over_processes(loss))

    def guess(self, masked: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the cross-entropy of each token that is to be guessed, row by row, in nats."""
        logits, wanted = self.guess_logits(masked, targets)
        return F.cross_entropy(logits.float(), wanted, reduction="none")

    def guess_logits(
        self, masked: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits over the vocabulary, `(N, size)`, of the N tokens of which there is a
        target, and the targets, `(N,)`."""
        assert self.mlm is not None
        trains = torch.is_grad_enabled() and self.text.plan.trunk_trains
        with torch.set_grad_enabled(trains):
            padding = self._transformer.config.pad_token_id
            states = self._transformer(
                input_ids=masked, attention_mask=(masked != padding).long()
            ).last_hidden_state
        is_target = targets != IGNORED
        return self.mlm(states[is_target], self._input_embeddings), targets[is_target]

    def _mean_over_processes(self, loss: torch.Tensor) -> torch.Tensor:
        """Gives all processes the same loss, whose gradients DistributedDataParallel averages."""
        if self._world_size == 1:
            return loss
        return torch.stack(torch.distributed.nn.all_gather(loss.reshape(1))).mean()

    @property
    def _transformer(self) -> Any:
        return self.text.trunk.transformer

    @property
    def _input_embeddings(self) -> torch.Tensor:
        return self._transformer.get_input_embeddings().weight
