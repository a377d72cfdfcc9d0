"""A configuration, a model and texts -> a model with a trained text tower in a folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from reelseek.configs.train_schema import TrainConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.store.atomic import publish_file
from reelseek.training.checkpoints import Checkpoints
from reelseek.training.network import tower_plans
from reelseek.training.objective import make_objective
from reelseek.training.optimizer import make_optimizer
from reelseek.training.order import EpochBatches
from reelseek.training.processes import Processes
from reelseek.training.run import run_trainer, training_precision
from reelseek.training.text.batches import TextPairs
from reelseek.training.text.held_out import HeldOut
from reelseek.training.text.lists import TextLists
from reelseek.training.text.masking import Masking
from reelseek.training.text.network import MaskedLanguageHead, TextNetwork
from reelseek.training.text.tokens import TextTokens, read_vocabulary, transformers_tokenizer
from reelseek.training.text.vocabulary import add_words, missing_words
from reelseek.training.trainer import Trainer
from reelseek.vision import DualEncoder, choose_device

_HEAD_NAME = "mlm_head.safetensors"


def train(
    config: TrainConfig,
    model: DualEncoder,
    lists: TextLists,
    *,
    processes: Processes,
    stop: StopRequest,
    on_accepted: Callable[[], None] = lambda: None,
) -> dict[str, Any] | None:
    """Trains the text tower and writes the model into `config.output`; see `training.run.train`.

    Raises:
        ValueError: the model has no mask token, or its tokenizer takes in no words, and the options
            ask for them; or as of `training.run.train`.
    """
    run = TextRun(config, model, lists, processes)
    figures = run_trainer(
        config,
        model,
        run.make_trainer,
        processes=processes,
        stop=stop,
        on_accepted=on_accepted,
        data_options={"num_pairs": lists.num_pairs(hashtags=config.text.hashtags)},
    )
    if figures is not None and processes.is_main_process and run.network.mlm is not None:
        _save_head(run.network.mlm, Path(str(config.output)))
    return figures


def evaluate(config: TrainConfig, lists: TextLists, model: DualEncoder) -> dict[str, Any]:
    """Measures a model on the held-out texts; guesses where its folder has a head for them."""
    device = choose_device(config.device)
    has_head = _head_path(model) is not None and config.text.mlm_weight > 0
    network = make_text_network(config, model, mlm_weight=config.text.mlm_weight * has_head)
    masking = _make_masking(config, model) if has_head else None
    held_out = HeldOut(
        lists.val, lists.val_pairs, tokens=TextTokens(model), masking=masking, device=device
    )
    metrics = held_out.measure(network.to(device))
    return metrics | {"fingerprint": model.fingerprint}


def make_text_network(
    config: TrainConfig, model: DualEncoder, *, mlm_weight: float, world_size: int = 1
) -> TextNetwork:
    """Returns the network of a configuration, with the model's head of masked-language modelling
    where its folder has one; it takes over the model's modules."""
    _, plan = tower_plans(config.trainable)
    own_scale = float(model.clip.logit_scale.detach().exp())
    network = TextNetwork(
        model,
        text=plan,
        logit_scale=config.objective.logit_scale or own_scale,
        train_logit_scale=config.objective.train_logit_scale,
        dropout=config.text.dropout,
        mlm_weight=mlm_weight,
        anchor_weight=config.text.anchor_weight,
        world_size=world_size,
    )
    path = _head_path(model)
    if network.mlm is not None and path is not None:
        _load_head(network.mlm, path)
    return network


@dataclass
class TextRun:
    """Makes the parts of a run.

    Attributes:
        model: where training starts; its modules are changed in place.
        network: the one that trains, once there is a trainer.
    """

    config: TrainConfig
    model: DualEncoder
    lists: TextLists
    processes: Processes
    network: TextNetwork = field(init=False)

    def make_trainer(self, checkpoints: Checkpoints, options: dict[str, Any]) -> Trainer:
        config, processes, lists = self.config, self.processes, self.lists
        rank, world_size = processes.rank, processes.world_size
        torch.manual_seed(config.loop.seed)  # of a new head
        model = self._with_new_words()
        masking = _make_masking(config, model) if config.text.mlm_weight else None
        self.network = make_text_network(
            config, model, mlm_weight=config.text.mlm_weight, world_size=world_size
        ).to(processes.device)
        pairs = TextPairs(
            lists.train,
            lists.pairs,
            tokens=TextTokens(model, max_tokens=config.data.max_tokens),
            masking=masking,
            hashtags=config.text.hashtags,
            seed=config.loop.seed,
        )
        validation = None
        if lists.has_held_out and processes.is_main_process:
            validation = HeldOut(
                lists.val,
                lists.val_pairs,
                tokens=TextTokens(model),
                masking=masking,
                device=processes.device,
            )
        return Trainer(
            self.network,
            loop=config.loop,
            optimizer_config=config.optimizer,
            objective=make_objective(config.objective, rank=rank, world_size=world_size),
            optimizer=make_optimizer(self.network, config.optimizer),
            source=pairs,
            batches=EpochBatches(
                len(pairs),
                batch_size=config.loop.batch_size,
                seed=config.loop.seed,
                rank=rank,
                world_size=world_size,
                of="texts",
            ),
            num_workers=config.data.workers,
            precision=training_precision(config, processes.device),
            processes=processes,
            checkpoints=checkpoints,
            options=options,
            validation=validation,
        )

    def _with_new_words(self) -> DualEncoder:
        """Adds words of the texts to the tokenizer; the same in every process and after a stop."""
        count = self.config.text.new_tokens
        if not count:
            return self.model
        tokenizer = transformers_tokenizer(self.model)

        def find() -> list[str]:
            if tokenizer is None:
                return []
            entries = (entry for own in (self.lists.train, self.lists.pairs) for entry in own)
            texts = (text for entry in entries for text in entry)
            return missing_words(tokenizer, texts, max_words=count)

        return add_words(self.model, self.processes.broadcast_from_rank0(find))


def _make_masking(config: TrainConfig, model: DualEncoder) -> Masking:
    return Masking(read_vocabulary(model), config.text.mask_fraction)


def _head_path(model: DualEncoder) -> Path | None:
    path = Path(model.spec.name) / _HEAD_NAME
    return path if path.is_file() else None


def _save_head(head: MaskedLanguageHead, folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: part.detach().cpu().clone() for name, part in head.state_dict().items()}
    publish_file(folder / _HEAD_NAME, lambda path: save_file(tensors, path))


def _load_head(head: MaskedLanguageHead, path: Path) -> None:
    """Loads a head that was saved; new words have no bias yet.

    Raises:
        ValueError: it is of another tower.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    missing = len(head.bias) - len(tensors["bias"])
    if missing > 0:
        tensors["bias"] = torch.nn.functional.pad(tensors["bias"], (0, missing))
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: is of another text tower; delete it to begin with a new one"
        ) from error
