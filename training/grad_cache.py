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

from reelseek.training.batches import Batch
from reelseek.training.objective import Objective

Seeder = Callable[[int], None]


def backward(
    network: nn.Module,
    batch: Batch,
    objective: Objective,
    *,
    chunk_size: int = 0,
    scale: float = 1.0,
    autocast: Callable[[], AbstractContextManager] = nullcontext,
    seed_chunk: Seeder = lambda chunk: None,
) -> torch.Tensor:
    """Adds a batch's gradients to those that the parameters have.

    Args:
        network: `Network`, or that within DistributedDataParallel.
        batch: this process's part of the global batch.
        objective: the loss.
        chunk_size: pairs that are held in memory with their graph; 0 for all.
        scale: that the gradients are multiplied with.
        autocast: entered around each forward pass.
        seed_chunk: called before each chunk is embedded, so that both passes draw the same.

    Returns:
        The loss, a scalar without graph.
    """
    if not 0 < chunk_size < len(batch):
        seed_chunk(0)
        with autocast():
            outputs = network(batch)
        loss = objective(*outputs, batch.ids)
        (scale * loss).backward()
        return loss.detach()

    chunks = batch.chunks(chunk_size)
    videos, texts = [], []
    with torch.no_grad():
        for number, chunk in enumerate(chunks):
            seed_chunk(number)
            with autocast():
                video, text, *_ = network(chunk)
            videos.append(video)
            texts.append(text)
    video_embeddings = torch.cat(videos).requires_grad_()
    text_embeddings = torch.cat(texts).requires_grad_()
    bare: Any = getattr(network, "module", network)
    # The scale and the bias take their gradients here; the chunks pass on those of the rest.
    loss = objective(
        video_embeddings,
        text_embeddings,
        bare.logit_scale.exp(),
        bare.logit_bias,
        batch.ids,
    )
    (scale * loss).backward()
    assert video_embeddings.grad is not None and text_embeddings.grad is not None
    gradients = zip(
        video_embeddings.grad.split(chunk_size), text_embeddings.grad.split(chunk_size), strict=True
    )
    for number, (chunk, (video_gradient, text_gradient)) in enumerate(
        zip(chunks, gradients, strict=True)
    ):
        seed_chunk(number)
        is_last = number == len(chunks) - 1
        with nullcontext() if is_last else no_sync(network):
            with autocast():
                video, text, logit_scale, logit_bias = network(chunk)
            surrogate = (video * video_gradient).sum() + (text * text_gradient).sum()
            # Nothing, but every parameter has to take part for the processes to compare notes.
            surrogate = surrogate + 0.0 * logit_scale.sum()
            if logit_bias is not None:
                surrogate = surrogate + 0.0 * logit_bias.sum()
            surrogate.backward()
    return loss.detach()


def no_sync(network: nn.Module) -> AbstractContextManager:
    """Within it, processes do not exchange gradients."""
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()
