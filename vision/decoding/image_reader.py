"""Reads a still image as a video of one frame."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from reelseek.vision.decoding.orientation import square
from reelseek.vision.decoding.reader import Resize
from reelseek.vision.errors import VideoDecodeError


class StillImageReader:
    """Decodes an image with Pillow and turns it upright by its EXIF data.

    Raises:
        VideoDecodeError: Pillow cannot read the file.
    """

    decoder = "pillow"
    knows_times = True
    num_lost_frames = 0

    def __init__(self, path: Path) -> None:
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = (lines[0] if lines else type(error).__name__)[:200]
            raise VideoDecodeError(f"not a readable image: {reason}") from error
        self._frame = torch.from_numpy(np.array(upright)).permute(2, 0, 1)  # (3, H, W)
        self.times_seconds = np.zeros(1)
        self.duration_seconds = 0.0
        self.is_key_frame = np.ones(1, dtype=bool)

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        if frame_indices:
            yield 0, resize(self._frame, 1.0)
