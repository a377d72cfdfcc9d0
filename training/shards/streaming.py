"""A configuration and the shards of a run -> the pairs that it trains on, and their order."""

import os
from pathlib import Path

from reelseek.configs.train_schema import TrainConfig
from reelseek.training.processes import Processes
from reelseek.training.shards.collection import ShardCollection
from reelseek.training.shards.order import ShardOrder
from reelseek.training.shards.pairs import LoadPlan, ShardPairs
from reelseek.training.shards.skipped import SkippedSamples
from reelseek.training.shards.worker import SampleSettings
from reelseek.training.texts import tokenize
from reelseek.vision import DualEncoder
from reelseek.vision.cores import num_cores


def stream_pairs(
    config: TrainConfig,
    model: DualEncoder,
    shards: ShardCollection,
    *,
    processes: Processes,
    is_continued: bool,
) -> tuple[ShardPairs, ShardOrder]:
    """Returns the pairs and their order for this process of the run.

    Raises:
        ValueError: the shards hold too few samples for a batch.
    """
    data, loop, decoding = config.data, config.loop, config.decoding
    order = ShardOrder(
        shards.sizes,
        batch_size=loop.batch_size,
        seed=loop.seed,
        shards_per_group=data.shards_per_group,
        rank=processes.rank,
        world_size=processes.world_size,
    )
    plan = LoadPlan(
        SampleSettings(
            config.sampling.sampler(),
            model.preprocessing,
            decoding.decoders(),
            frames_per_video=loop.frames_per_video,
            min_crop_area=data.min_crop_area,
            flip=loop.flip,
        ),
        # The processes of one machine share its cores.
        num_workers=decoding.workers
        or max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))),
        limits=decoding.limits(),
        seed=loop.seed,
    )
    skipped = SkippedSamples(
        Path(str(config.output)) / "skipped.tsv",
        shards.broken,
        max_failed_fraction=data.max_failed_fraction,
        processes=processes,
        is_continued=is_continued,
    )
    pairs = ShardPairs(
        shards,
        order,
        plan,
        skipped=skipped,
        tokenize=lambda captions: tokenize(captions, model, data.max_tokens),
    )
    return pairs, order
