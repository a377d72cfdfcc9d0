"""Batches and a network -> a trained network: the loop, which can stop and continue anywhere."""

import itertools
import logging
import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from reelseek.configs.train_schema import LoopConfig, OptimizerConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.training import grad_cache
from reelseek.training.batches import BatchSource, Rows, step_seed
from reelseek.training.checkpoints import Checkpoints, RunState
from reelseek.training.curves import EventLog, Record, best_record, is_validation, score_of
from reelseek.training.network import Network
from reelseek.training.objective import Objective, gather_ids
from reelseek.training.optimizer import set_learning_rates
from reelseek.training.order import BatchOrder
from reelseek.training.processes import Processes
from reelseek.training.progress import StepProgress
from reelseek.training.validation import Measure, as_record

logger = logging.getLogger(__name__)


class NonFiniteLossError(ValueError):
    """The loss is not a number: the learning rate is too high, or a video's features are broken."""


class Trainer:
    """One run.

    Args:
        network: on its device; changed in place.
        objective: the loss.
        optimizer: of the network's parameters.
        source: of the batches.
        batches: their order.
        loop: how long, and in which steps.
        optimizer_config: the warm-up, the clipping and the interpolation of the weights.
        num_workers: batches that are made ahead.
        precision: of the forward pass.
        processes: of the run.
        checkpoints: where the state is kept.
        options: of the run, kept in its checkpoints.
        validation: measured after epochs; None for none.
    """

    def __init__(
        self,
        network: Network,
        *,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        source: BatchSource,
        batches: BatchOrder,
        loop: LoopConfig,
        optimizer_config: OptimizerConfig,
        processes: Processes,
        checkpoints: Checkpoints,
        options: dict[str, Any],
        num_workers: int = 0,
        precision: torch.dtype = torch.float32,
        validation: Measure | None = None,
    ) -> None:
        self.network = network
        self._start = {name: part.clone() for name, part in network.trained_state().items()}
        self._wrapped: nn.Module = network
        if processes.world_size > 1:
            self._wrapped = nn.parallel.DistributedDataParallel(self._wrapped)
        self._objective = objective
        self._optimizer = optimizer
        self._source = source
        self._batches = batches
        self._loop = loop
        self._optimizer_config = optimizer_config
        self._num_workers = num_workers
        self._precision = precision
        self._processes = processes
        self._checkpoints = checkpoints
        self._options = options
        self._validation = validation
        self.steps_per_epoch = len(batches) // loop.accumulate_steps
        if not self.steps_per_epoch:
            raise ValueError(
                f"loop.accumulate_steps={loop.accumulate_steps}: an epoch has only "
                f"{len(batches)} batches"
            )
        self.num_steps = loop.epochs * self.steps_per_epoch
        self.state = RunState()
        self._saved_at = time.monotonic()

    def restore(self, state: RunState) -> None:
        """Continues from a checkpoint.

        Raises:
            ValueError: it belongs to another model.
        """
        self.network.load_trained_state(state.weights)
        self._optimizer.load_state_dict(state.optimizer)
        self.state = state

    def run(self, *, stop: StopRequest, log: EventLog, progress: StepProgress) -> bool:
        """Trains to the end or until `stop`; returns whether it reached the end.

        Raises:
            NonFiniteLossError: with the step and the videos of the batch.
            ValueError: a checkpoint cannot be saved.
        """
        if self._validate_if_due(log, progress):
            self._save()
        loaded = self._source.load(self._indices(), num_workers=self._num_workers)
        with closing(loaded):
            return self._run(loaded, stop=stop, log=log, progress=progress)

    def _run(
        self,
        loaded: Generator[Rows, None, None],
        *,
        stop: StopRequest,
        log: EventLog,
        progress: StepProgress,
    ) -> bool:
        while self.state.step < self.num_steps:
            with progress.waiting():
                batches = [next(loaded) for _ in range(self._loop.accumulate_steps)]
            record = self._step(batches) | self._source.step_metrics()
            self.state.history.append(record)
            log.add(record)
            progress.step(record)
            is_stopping = self._processes.any(bool(stop))
            if not is_stopping:
                self._validate_if_due(log, progress)
            is_epochs_end = self.state.step % self.steps_per_epoch == 0
            is_due = time.monotonic() - self._saved_at >= self._loop.save_every_seconds
            if is_stopping or is_due or is_epochs_end:
                self._save()
            if is_stopping:
                return False
        return True

    @property
    def best_step(self) -> int | None:
        """The step whose weights were best on the validation set; None without one."""
        best = best_record(self.state.history)
        return best["step"] if best else None

    def finished_weights(self) -> dict[str, torch.Tensor]:
        """Returns the weights of the finished model: the trained ones, interpolated towards those
        of the start by `wise_ft_alpha`.

        The interpolation is WiSE-FT's (Wortsman et al. 2022, section 3).
        """
        fraction = self._optimizer_config.wise_ft_alpha
        return {
            name: part + fraction * (self._start[name] - part) if fraction else part.clone()
            for name, part in self.network.trained_state().items()
        }

    def _indices(self) -> Iterator[list[tuple[int, int]]]:
        """Yields the indices of all coming batches, to the end of the run: so reading ahead does
        not pause at the end of an epoch."""
        epoch, done = divmod(self.state.step, self.steps_per_epoch)
        each = self._loop.accumulate_steps
        for later in range(epoch, self._loop.epochs):
            first = done * each if later == epoch else 0
            batches = self._batches.of_epoch(later, first=first)
            yield from itertools.islice(batches, self.steps_per_epoch * each - first)

    def _step(self, batches: list[Rows]) -> Record:
        """Makes one optimizer step; changes nothing where a loss is not finite."""
        config = self._optimizer_config
        fraction = set_learning_rates(
            self._optimizer,
            step=self.state.step,
            num_steps=self.num_steps,
            warmup_steps=config.warmup_steps,
        )
        self._optimizer.zero_grad(set_to_none=True)
        self._wrapped.train()
        loss = sum(self._backward(batches, number) for number in range(len(batches)))
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(parameters, config.max_grad_norm or math.inf))
        if not math.isfinite(norm):
            raise NonFiniteLossError(
                self._describe(batches[-1], norm, quantity="norm of the gradient")
            )
        self._optimizer.step()
        self.network.clamp_logit_scale()
        self.state.step += 1
        return {
            "step": self.state.step,
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/logit_scale": self.network.logit_scale.exp().item(),
            "train/lr_share": fraction,
        }

    def _backward(self, batches: list[Rows], number: int) -> float:
        """Adds the gradients of one of a step's batches; returns its part of the loss."""
        step, rank = self.state.step, self._processes.rank

        def seed_chunk(chunk: int) -> None:
            torch.manual_seed(step_seed(self._loop.seed, step, number, chunk, rank))

        # Processes exchange their gradients once a step, with those of the last batch.
        is_last = number == len(batches) - 1
        with nullcontext() if is_last else grad_cache.no_sync(self._wrapped):
            loss = grad_cache.backward(
                self._wrapped,
                batches[number].to(self._processes.device),
                self._objective,
                chunk_size=self._loop.chunk_size,
                scale=1 / len(batches),
                autocast=self._autocast,
                seed_chunk=seed_chunk,
            ).item()
        if not math.isfinite(loss):
            raise NonFiniteLossError(self._describe(batches[number], loss))
        return loss / len(batches)

    def _autocast(self) -> AbstractContextManager:
        if self._precision is torch.float32:
            return nullcontext()
        return torch.autocast(self._processes.device.type, dtype=self._precision)

    def _describe(self, batch: Rows, value: float, *, quantity: str = "loss") -> str:
        """Describes the error, with its likely cause.

        The loss is the same in all processes, so all of them come here together.
        """
        ids = batch.ids[0]
        if self._processes.world_size > 1:
            ids = gather_ids(ids.to(self._processes.device))
        epoch, batch_index = divmod(self.state.step, self.steps_per_epoch)
        return (
            f"the {quantity} is {value} at step {self.state.step + 1} (epoch {epoch + 1}, step "
            f"{batch_index + 1} in it): {self._source.describe_broken(ids.tolist())}"
        )

    def _validate_if_due(self, log: EventLog, progress: StepProgress) -> bool:
        """Validates before the first step and after epochs, but not again where a run continues
        there; returns whether it did."""
        if self._validation is None or not self._processes.is_main_process:
            return False
        epoch, inside = divmod(self.state.step, self.steps_per_epoch)
        is_due = epoch % self._loop.eval_every == 0 or self.state.step == self.num_steps
        is_done = self.state.history and is_validation(self.state.history[-1])
        if inside or not is_due or is_done:
            return False
        self._validate(self._validation, log, progress)
        return True

    def _validate(self, validation: Measure, log: EventLog, progress: StepProgress) -> None:
        """Measures the weights of the finished model; keeps them where they are the best."""
        finished = self.finished_weights()
        with _swapped(self.network, finished):
            metrics = validation.measure(self.network.eval())
        record = as_record(metrics, step=self.state.step)
        self.state.history.append(record)
        log.add(record)
        progress.evaluated(record)
        score = score_of(record)
        if self.state.best_score is None or score > self.state.best_score:
            self.state.best_score = score
            self._checkpoints.save_best({name: part.cpu() for name, part in finished.items()})

    def _save(self) -> None:
        if self._processes.is_main_process:
            self.state.weights = self.network.trained_state()
            self.state.optimizer = self._optimizer.state_dict()
            self.state.options = self._options
            self._checkpoints.save_last(self.state)
        self._saved_at = time.monotonic()


@contextmanager
def _swapped(network: Network, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """Gives the network other weights inside the context."""
    own = {name: part.clone() for name, part in network.trained_state().items()}
    network.load_trained_state(weights)
    try:
        yield
    finally:
        network.load_trained_state(own)
