"""A model and a captioned list -> the embeddings of its videos and captions, through the cache of
training: videos that a run or an earlier evaluation decoded are not decoded again."""

import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reelseek.configs.train_schema import TrainConfig
from reelseek.indexing.pipeline import EncodedVideo
from reelseek.indexing.shutdown import StopRequest
from reelseek.training.frame_cache import CachedVideo
from reelseek.training.frames import CachedFrames
from reelseek.training.lists import CaptionedList, cache_folder, warn_of_failed
from reelseek.training.network import tower_plans
from reelseek.training.retrieval import CaptionedVideos
from reelseek.training.texts import TextFeatures
from reelseek.training.towers import split_image_tower, split_text_tower
from reelseek.vision import DualEncoder, FrameEncoder, choose_device

MAX_BANK = 2000


def sample_bank(captions: Sequence[str]) -> list[str]:
    """Returns at most `MAX_BANK` of the captions, for QB-Norm; the choice depends on the captions
    alone, not on their order."""
    by_chance = sorted(captions, key=lambda text: hashlib.sha256(text.encode()).digest())
    return by_chance[:MAX_BANK]


class Evaluator:
    """Embeds captions and videos with one model, through the cache.

    Args:
        config: of the run, or of the evaluation.
        model: moved to the device.
    """

    def __init__(self, config: TrainConfig, model: DualEncoder) -> None:
        self._config = config
        self._model = model
        self._device = choose_device(config.device)
        model.clip.to(self._device)
        text_trunk, self._text_head = split_text_tower(model.clip)
        root = cache_folder(config.data)
        self._texts = TextFeatures(model, text_trunk, root, device=self._device)

    def embed_texts(self, sentences: Sequence[str]) -> torch.Tensor:
        """`(B, D)` float32 on the CPU, L2-normalised."""
        self._texts.fill(sentences, stop=StopRequest())
        with torch.inference_mode():
            parts = self._texts(sentences).split(1024)
            features = [self._text_head(part.to(self._device)).float().cpu() for part in parts]
            return F.normalize(torch.cat(features), dim=-1)

    def embed_videos(self, listed: CaptionedList) -> CaptionedVideos:
        """Embeds the videos that can be decoded; warns of the others.

        Raises:
            ValueError: none can be decoded, or the cache cannot be written.
        """
        config, model = self._config, self._model
        trunk, head = split_image_tower(model.clip)
        image_plan, _ = tower_plans(config.trainable)
        keeps_pixels = image_plan.trunk_trains  # as the run that has just decoded them
        frames = CachedFrames(config, model, None if keeps_pixels else trunk)
        filled = frames.fill(listed.items, stop=StopRequest(), with_times=True)
        failed = [*listed.uncaptioned, *filled.failed]
        warn_of_failed(failed)
        cached = frames.cache.videos(filled.contents)
        items = [item for item in listed.items if item.key in cached]
        if not items:
            raise ValueError(
                f"none of {len(listed.items)} videos can be decoded; the first: {failed[0]}"
            )
        if keeps_pixels:
            encode = self._encode_pixels()
        else:
            encode = functools.partial(self._encode_features, head)
        encoded = [
            _as_encoded(number, cached[item.key], encode(cached[item.key].frames))
            for number, item in enumerate(items)
        ]
        with torch.inference_mode():
            pooled = [model.pooling(video.embeddings[None])[0] for video in encoded]
        return CaptionedVideos(
            embeddings=torch.stack(pooled),
            captions=[caption for item in items for caption in item.captions],
            caption_video=np.repeat(np.arange(len(items)), [len(item.captions) for item in items]),
            items=items,
            failed=failed,
            encoded=encoded,
        )

    def _encode_pixels(self) -> Callable[[np.ndarray], torch.Tensor]:
        encoder = FrameEncoder(
            self._model,
            device=self._config.device,
            precision=self._config.precision,
            compiled=True,
            quantized=False,
        )
        return lambda pixels: encoder.encode(torch.from_numpy(np.array(pixels)))

    @torch.inference_mode()
    def _encode_features(self, head: nn.Module, features: np.ndarray) -> torch.Tensor:
        outputs = head(torch.from_numpy(features.astype(np.float32)).to(self._device))
        return F.normalize(outputs.float(), dim=-1).cpu()


def _as_encoded(number: int, video: CachedVideo, embeddings: torch.Tensor) -> EncodedVideo[int]:
    assert video.times_seconds is not None, "the cache was filled with_times"
    return EncodedVideo(
        number,
        embeddings,
        video.times_seconds,
        float(video.duration_seconds or 0.0),
        outcome="ok",
        reason="",
    )
