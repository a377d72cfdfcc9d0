"""Batches and a network -> a trained network: a loop that can stop and continue anywhere."""

import math
import time
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

from reelseek.configs.sequential_schema import SequentialLoopConfig
from reelseek.recommendation.recommender import Progress, silent
from reelseek.recommendation.sequential.batches import SequenceBatch, SequenceBatches
from reelseek.recommendation.sequential.negatives import (
    Negatives,
    NegativeSampler,
    sampled_softmax_loss,
)
from reelseek.recommendation.sequential.network import SequentialNetwork
from reelseek.training.batches import step_seed
from reelseek.training.checkpoints import Checkpoints, RunState
from reelseek.training.optimizer import set_learning_rates
from reelseek.training.processes import Processes

_NEGATIVES_STREAM = 1  # a stream of random numbers of its own, beside that of dropout


class SequentialTrainer:
    """One run.

    Where it is stopped and continued, it comes to the same weights, bit for bit.

    Args:
        network: on the processes' device; changed in place.
        batches: of this process.
        sampler: of negatives, which all processes draw alike.
        config: how long, and in which steps.
        seed: of dropout and negatives.
        processes: of the run.
        checkpoints: where the state is kept; None to keep none.
        options: of the run, kept in its checkpoints.
    """

    def __init__(
        self,
        network: SequentialNetwork,
        batches: SequenceBatches,
        *,
        sampler: NegativeSampler,
        config: SequentialLoopConfig,
        seed: int,
        processes: Processes,
        checkpoints: Checkpoints | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.network, self._batches, self._sampler = network, batches, sampler
        self._config, self._seed, self._processes = config, seed, processes
        self._checkpoints = checkpoints
        self._optimizer = make_optimizer(network, config)
        self.num_steps = config.epochs * len(batches)
        self.state = RunState(options=options or {})
        self._saved_at = time.monotonic()

    def restore(self, state: RunState) -> None:
        """Continues from a checkpoint.

        Raises:
            ValueError: it belongs to another network.
        """
        try:
            self.network.load_state_dict(state.weights)
            self._optimizer.load_state_dict(state.optimizer)
        except (RuntimeError, KeyError) as error:
            raise ValueError(f"the checkpoint is of another network: {error}") from error
        self.state = state

    def run(self, *, stop: Any = False, progress: Progress = silent) -> bool:
        """Trains to the end, or until `stop` is true after a step; returns whether it reached the
        end.

        Raises:
            ValueError: the loss is not finite, or a checkpoint cannot be saved.
        """
        while self.state.step < self.num_steps:
            epoch, first = divmod(self.state.step, len(self._batches))
            for indices in self._batches.indices(epoch)[first:]:
                loss = self._step(self._batches.make(indices))
                self.state.history.append({"step": self.state.step, "train/loss": loss})
                progress(
                    self.state.step / self.num_steps, f"of {self.num_steps} steps, loss {loss:.3f}"
                )
                is_stopping = self._processes.any(bool(stop))
                is_due = time.monotonic() - self._saved_at >= self._config.save_every_seconds
                if is_stopping or is_due or self.state.step == self.num_steps:
                    self._save()
                if is_stopping:
                    return self.state.step == self.num_steps
        return True

    def _step(self, batch: SequenceBatch) -> float:
        """Makes one optimizer step; returns the mean loss of the batch over all processes."""
        step, rank = self.state.step, self._processes.rank
        set_learning_rates(
            self._optimizer,
            step=step,
            num_steps=self.num_steps,
            warmup_steps=self._config.warmup_steps,
        )
        self.network.train()
        self._optimizer.zero_grad(set_to_none=False)
        random = np.random.default_rng([self._seed, step, _NEGATIVES_STREAM])
        negatives = self._sampler.draw(self._config.num_negatives, random)
        torch.manual_seed(step_seed(self._seed, step, 0, 0, rank))
        loss = self._loss(batch, negatives)
        loss.backward()
        mean_loss = self._add_up(loss.detach())
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self._config.max_grad_norm)
        if not (math.isfinite(mean_loss) and math.isfinite(norm)):
            raise ValueError(
                f"the loss is {mean_loss} at step {step + 1}, the norm of its gradient "
                f"{float(norm)}: loop.lr={self._config.lr} is too high"
            )
        self._optimizer.step()
        self.state.step += 1
        return mean_loss

    def _loss(self, batch: SequenceBatch, negatives: Negatives) -> torch.Tensor:
        """Returns this process's part of the batch's mean loss, so that parts add up."""
        network, device = self.network, self._processes.device
        negatives = Negatives(negatives.items.to(device), negatives.log_expected.to(device))
        predicted = network(batch.items.to(device))[batch.is_event.to(device)]
        targets = batch.targets[batch.is_event].to(device)
        losses = sampled_softmax_loss(
            predicted,
            network.items(targets),
            network.items(negatives.items),
            targets=targets,
            negatives=negatives,
            logit_scale=network.logit_scale,
        )
        return losses.sum() / batch.num_events

    def _add_up(self, loss: torch.Tensor) -> float:
        """Adds up the gradients of all processes, in one exchange, and their parts of the loss."""
        if self._processes.world_size > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            flat = torch.cat([loss.reshape(1), *(gradient.reshape(-1) for gradient in gradients)])
            distributed.all_reduce(flat)
            loss, *parts = flat.split([1, *(gradient.numel() for gradient in gradients)])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        return loss.item()

    def _save(self) -> None:
        if self._checkpoints is not None and self._processes.is_main_process:
            self.state.weights = self.network.state_dict()
            self.state.optimizer = self._optimizer.state_dict()
            self._checkpoints.save_last(self.state)
        self._saved_at = time.monotonic()


def make_optimizer(network: SequentialNetwork, config: SequentialLoopConfig) -> torch.optim.AdamW:
    """Returns AdamW (Loshchilov and Hutter 2019). Items, vectors and scalars do not decay."""
    items = set(network.items.ids.parameters())
    decayed = [p for p in network.parameters() if p.dim() > 1 and p not in items]
    others = [p for p in network.parameters() if p.dim() <= 1 or p in items]
    return torch.optim.AdamW(
        [
            {"params": decayed, "peak_lr": config.lr, "weight_decay": config.weight_decay},
            {"params": others, "peak_lr": config.lr, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(0.9, 0.98),
    )
