"""A run's options and lists -> their mistakes, one line each, before a model is loaded or a frame
decoded; without PyTorch, whose import alone takes longer."""

import importlib.util
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reelseek.configs.train_schema import PoolingKind, TrainConfig, TrainMode
from reelseek.indexing.sources.collection import VideoItem
from reelseek.indexing.store.atomic import nearest_existing, write_failure
from reelseek.training.lists import Failure, RunLists, are_too_many, check_failed, missing_files
from reelseek.vision import embedding_dim_of

logger = logging.getLogger(__name__)

# May differ between a run and its continuation: they say where it runs, not what it computes.
_FREE_OPTIONS = {"decoding", "device", "output", "num_bootstrap", "eval_only"}
_FREE_DATA_OPTIONS = {"cache", "workers"}


def check_options(config: TrainConfig, *, world_size: int) -> None:
    """Refuses options that do not fit the installed packages, the model or the processes.

    Raises:
        ValueError: names the option.
    """
    trainable, pooling = config.trainable, config.pooling
    for name, mode in (("image", trainable.image), ("text", trainable.text)):
        if mode is TrainMode.lora and importlib.util.find_spec("peft") is None:
            raise ValueError(f"trainable.{name}=lora needs PEFT: pip install 'reelseek[train]'")
    dim = embedding_dim_of(config.model.name)
    if pooling.kind is PoolingKind.transformer and dim is not None and dim % pooling.num_heads:
        raise ValueError(
            f"pooling.num_heads={pooling.num_heads}: must divide the {dim} dimensions of the "
            f"embeddings of model={config.model.name}"
        )
    if config.loop.batch_size % world_size:
        raise ValueError(
            f"loop.batch_size={config.loop.batch_size}: must be a multiple of the {world_size} "
            "processes of torchrun"
        )


def check_folder(name: str, folder: Path) -> None:
    """Refuses a folder that cannot be written; makes nothing.

    Raises:
        ValueError: names the option.
    """
    existing = nearest_existing(folder)
    if reason := write_failure(existing):
        raise ValueError(
            f"{name}={folder}: cannot be made or written ({existing}: {reason}); name another "
            "folder"
        )


def check_lists(config: TrainConfig, lists: RunLists) -> None:
    """Refuses lists that cannot be trained on; warns of weights without a source.

    Raises:
        ValueError: too many videos are missing, or their captions fill no batch.
    """
    missing = missing_files(lists.items)
    removed = {path for path, _ in missing}
    _require_some("data.train", config.data.train, lists.train.items, missing)
    if config.data.val:
        _require_some("data.val", config.data.val, lists.val.items, missing)
    failed = [*lists.uncaptioned, *missing]
    num_videos = len(lists.items) + len(lists.uncaptioned)
    if are_too_many(
        failed, num_videos=num_videos, max_failed_fraction=config.data.max_failed_fraction
    ):
        report = Path(str(config.output)) / "failed.tsv"
        check_failed(
            failed,
            num_videos=num_videos,
            max_failed_fraction=config.data.max_failed_fraction,
            report=report,
        )
    sources = {item.metadata["source"] for item in lists.train.items}
    if unknown := sorted(config.data.weights.keys() - sources):
        logger.warning(
            "%s: ignored, since data.train has no such source; there are %s",
            *(", ".join(f"data.weights.{name}" for name in unknown), ", ".join(sorted(sources))),
        )
    _require_batches(config, [item for item in lists.train.items if str(item.path) not in removed])


def check_evaluated(config: TrainConfig, lists: RunLists) -> None:
    """Refuses a list without any existing video.

    Raises:
        ValueError: names the list.
    """
    items = lists.val.items
    _require_some("data.val", config.data.val, items, missing_files(items))


def plain_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the options that a run and its continuation must share, as plain values."""
    values = json.loads(json.dumps(asdict(config), default=lambda value: value.name))
    return comparable_options(values)


def comparable_options(values: dict[str, Any]) -> dict[str, Any]:
    """Returns those of a configuration's plain values that change what a run computes."""
    kept = {name: value for name, value in values.items() if name not in _FREE_OPTIONS}
    data = {k: value for k, value in kept["data"].items() if k not in _FREE_DATA_OPTIONS}
    return kept | {"data": data}


def require_same_run(ours: dict[str, Any], theirs: dict[str, Any], output: Path) -> None:
    """Refuses to continue a run that has other options.

    Raises:
        ValueError: names the first of them, with both values.
    """
    if differing := differing_options(ours, theirs):
        raise ValueError(
            f"output={output} holds a run with other options: {'; '.join(differing[:4])}"
            f"{'; ...' if len(differing) > 4 else ''}; name another output, or delete "
            f"{output / 'checkpoints'} to begin anew"
        )


def differing_options(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns the options in which two runs differ, with both values."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differing_options(mine, other, f"{prefix}{name}.")
        elif mine != other:
            found.append(f"{prefix}{name} ({json.dumps(other)} there, {json.dumps(mine)} here)")
    return found


def _require_some(
    name: str, lists: Sequence[str], items: Sequence[VideoItem], missing: Iterable[Failure]
) -> None:
    reasons = dict(missing)
    if all(str(item.path) in reasons for item in items):
        first = str(items[0].path)
        raise ValueError(
            f"{name}={','.join(lists)}: none of its {len(items)} videos is there; the first: "
            f"{first}: {reasons[first]}"
        )


def _require_batches(config: TrainConfig, items: Sequence[VideoItem]) -> None:
    weights, loop = config.data.weights, config.loop
    num_pairs = int(
        sum(len(item.captions) * weights.get(item.metadata["source"], 1.0) for item in items) + 1e-6
    )
    if num_pairs < loop.batch_size:
        raise ValueError(
            f"loop.batch_size={loop.batch_size}: data.train has only {num_pairs} pairs of a video "
            "and a caption in an epoch; make it smaller"
        )
    if num_pairs // loop.batch_size < loop.accumulate_steps:
        raise ValueError(
            f"loop.accumulate_steps={loop.accumulate_steps}: an epoch has only "
            f"{num_pairs // loop.batch_size} batches; make it smaller, or loop.batch_size"
        )
