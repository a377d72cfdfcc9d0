"""A configuration and a model -> the cached frames of a run's videos: features where the image
trunk does not train, else pixels."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from reelseek.configs.train_schema import TrainConfig
from reelseek.indexing.shutdown import StopRequest
from reelseek.indexing.sources.collection import VideoItem
from reelseek.training.frame_cache import CacheContents, FrameCache, PixelEncoder
from reelseek.training.lists import cache_folder
from reelseek.training.towers import trunk_fingerprint
from reelseek.vision import DualEncoder, FrameEncoder


class CachedFrames:
    """The cached frames of a run or an evaluation.

    Args:
        config: of the run.
        model: prepares the frames.
        trunk: makes the features; None keeps pixels.
    """

    def __init__(self, config: TrainConfig, model: DualEncoder, trunk: nn.Module | None) -> None:
        self._config = config
        self._preprocessing = model.preprocessing
        description: dict[str, Any] = {
            "sampling": asdict(config.sampling),
            "preprocessing": model.preprocessing.as_dict(),
        }
        self._encoder: FrameEncoder | PixelEncoder = PixelEncoder(model.preprocessing)
        if trunk is not None:
            fingerprint = trunk_fingerprint(trunk)
            compiled_from = json.dumps([fingerprint, description["preprocessing"]], sort_keys=True)
            self._encoder = FrameEncoder(
                # So models that share a trunk share its compiled form, too.
                replace(model, fingerprint=hashlib.sha256(compiled_from.encode()).hexdigest()[:32]),
                device=config.device,
                precision=config.precision,
                compiled=True,
                trunk=trunk,
            )
            description |= {
                "trunk": fingerprint,
                "precision": str(self._encoder.dtype),
                "engine": self._encoder.engine,
            }
        self.cache = FrameCache(cache_folder(config.data), description)

    def fill(
        self, items: Sequence[VideoItem], *, stop: StopRequest, with_times: bool = False
    ) -> CacheContents:
        """Decodes and encodes what is not there yet; as `FrameCache.fill`."""
        settings = self._config.sampling.frame_settings(self._preprocessing)
        with self._config.decoding.pool(settings) as pool:
            return self.cache.fill(
                items, encoder=self._encoder, pool=pool, stop=stop, with_times=with_times
            )
