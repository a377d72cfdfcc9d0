"""A large contrastive batch on a small memory: GradCache (Gao et al. 2021, section 3).

The loss needs the embeddings of the whole batch, but a chunk's gradient needs only its own part of
the graph. So: embed chunk by chunk without a graph, take the loss's gradient with respect to the
embeddings, and embed each chunk again, now with a graph, to send its embeddings' gradient back.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from reelseek.training.batches import Rows
from reelseek.training.objective import Objective

Seeder = Callable[[int], None]


def backward(
    network: nn.Module,
    batch: Rows,
    objective: Objective,
    *,
    chunk_size: int = 0,
    scale: float = 1.0,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    seed_chunk: Seeder = lambda chunk: None,
) -> torch.Tensor:
    """Adds a batch's gradients to those of the parameters.

    Args:
        network: `Network`, or that within DistributedDataParallel. A fifth output, if any, is a
            further loss, a mean over the batch's rows; without gradients it is not asked for.
        batch: this process's part of the global batch.
        objective: the loss.
        chunk_size: pairs that are held in memory with their graph; 0 for all.
        scale: factor of the gradients.
        autocast: context of each forward pass.
        seed_chunk: called before each chunk's forward passes, so that both draw the same numbers.

    Returns:
        The loss, a scalar without graph.
    """
    if not 0 < chunk_size < len(batch):
        seed_chunk(0)
        with autocast():
            outputs = network(batch)
        loss = objective(*outputs[:4], batch.ids) + sum(outputs[4:])
        (scale * loss).backward()
        return loss.detach()

    chunks = batch.chunks(chunk_size)
    embeddings = []
    with torch.no_grad():
        for number, chunk in enumerate(chunks):
            seed_chunk(number)
            with autocast():
                embeddings.append(network(chunk)[:2])
    videos, texts = (torch.cat(side).requires_grad_() for side in zip(*embeddings, strict=True))
    bare: Any = getattr(network, "module", network)
    # The scale and the bias take their gradients here; the chunks pass on those of the rest.
    loss = objective(videos, texts, bare.logit_scale.exp(), bare.logit_bias, batch.ids)
    (scale * loss).backward()
    assert videos.grad is not None and texts.grad is not None
    gradients = zip(videos.grad.split(chunk_size), texts.grad.split(chunk_size), strict=True)
    for number, (chunk, chunk_gradients) in enumerate(zip(chunks, gradients, strict=True)):
        seed_chunk(number)
        is_last = number == len(chunks) - 1
        with nullcontext() if is_last else no_sync(network):
            with autocast():
                outputs = network(chunk)
            own_loss = sum(outputs[4:]) * (len(chunk) / len(batch))
            (_surrogate(outputs, chunk_gradients) + scale * own_loss).backward()
        loss = (loss + own_loss).detach()
    return loss.detach()


def _surrogate(
    outputs: tuple[torch.Tensor, ...], gradients: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Returns a scalar with the gradients that the loss has through a chunk's embeddings."""
    video, text, logit_scale, logit_bias, *_ = outputs
    surrogate = (video * gradients[0]).sum() + (text * gradients[1]).sum()
    # Adds 0, but every parameter must take part for the processes to exchange gradients.
    surrogate = surrogate + 0.0 * logit_scale.sum()
    return surrogate if logit_bias is None else surrogate + 0.0 * logit_bias.sum()


def no_sync(network: nn.Module) -> AbstractContextManager:
    """Stops processes from exchanging gradients inside the context."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()
