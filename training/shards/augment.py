"""A sample's seed -> its random frames, crop and mirroring, the same in whichever process."""

from dataclasses import dataclass

import numpy as np
import torch

from reelseek.vision import Preprocessing, Sampler, Samples, VideoReader

_ASPECTS = (3 / 4, 4 / 3)  # of the crop, as in open_clip and Inception (Szegedy et al. 2015)


@dataclass(frozen=True)
class RandomFrames:
    """Takes some of a sampler's frames at random, in order; others are not decoded.

    Attributes:
        sampler: of the run.
        num_frames: at most; 0 for all.
        seed: of the choice.
    """

    sampler: Sampler
    num_frames: int
    seed: int

    def __call__(self, video: VideoReader) -> Samples:
        indices = self.sampler(video).frame_indices
        if 0 < self.num_frames < len(indices):
            random = np.random.default_rng(self.seed)
            indices = np.sort(random.choice(indices, self.num_frames, replace=False))
        return Samples(indices)


@dataclass(frozen=True)
class RandomCrop:
    """Crops and mirrors all frames of a sample alike, in the place of `Preprocessing`.

    Attributes:
        preprocessing: of the model.
        min_area: the crop has at least this fraction of a frame's area; 0 for the model's own.
        flip: mirrors half of the samples.
        seed: of the crop and the mirroring.
    """

    preprocessing: Preprocessing
    min_area: float
    flip: bool
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        return self.preprocessing.size

    def resize(self, frames: torch.Tensor, pixel_aspect: float = 1.0) -> torch.Tensor:
        """`(..., 3, H, W)` uint8 to `(..., 3, *size)` uint8."""
        if self.min_area:
            resized = self._crop(frames, pixel_aspect)
        else:
            resized = self.preprocessing.resize(frames, pixel_aspect)
        is_mirrored = self.flip and np.random.default_rng(self.seed).random() < 0.5
        return resized.flip(-1) if is_mirrored else resized

    def _crop(self, frames: torch.Tensor, pixel_aspect: float) -> torch.Tensor:
        """Random resized crop (Szegedy et al. 2015, section 6), as torchvision draws it."""
        from torchvision.transforms import RandomResizedCrop
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        # torchvision draws from PyTorch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            aspects = [aspect / pixel_aspect for aspect in _ASPECTS]  # in stored pixels
            top, left, height, width = RandomResizedCrop.get_params(
                frames, [self.min_area, 1.0], aspects
            )
        return TF.resized_crop(
            *(frames, top, left, height, width),
            size=list(self.size),
            interpolation=InterpolationMode(self.preprocessing.interpolation),
            antialias=True,
        )
