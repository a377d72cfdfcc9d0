"""The interface of a video reader: frames by index, with their presentation times.

Everything above the decoders uses this interface and never sees a decoder.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from reelseek.vision.decoding.orientation import square

# The default order in which workers try the decoders; see docs/decoding.md.
DECODERS = ("decord", "pyav")

# Maps `(3, H, W)` uint8 and the aspect ratio (width / height) of its pixels to `(3, H', W')` uint8.
Resize = Callable[[torch.Tensor, float], torch.Tensor]


class Timeline(Protocol):
    """The times at which a file shows its frames.

    Attributes:
        times_seconds: `(N,)` float64, presentation times relative to the first frame, never
            decreasing.
        duration_seconds: End of the last frame; 0.0 for a still image.
        is_key_frame: `(N,)` bool.
    """

    times_seconds: np.ndarray
    duration_seconds: float
    is_key_frame: np.ndarray


class VideoReader(Timeline, Protocol):
    """Reads the frames of one file, upright and with square pixels.

    Attributes:
        decoder: Name of the decoder.
        knows_times: Whether the decoder identifies each frame by its time, so that it never
            returns one frame in place of another.
        num_lost_frames: Frames that the file lists but that are cut off or damaged, as far as
            opening the file shows.
    """

    decoder: str
    knows_times: bool
    num_lost_frames: int

    def frames(
        self, frame_indices: Sequence[int], resize: Resize = square
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Decodes frames in ascending order, each once.

        Args:
            frame_indices: Indices into `times_seconds`.
            resize: Applied to each frame after it is turned upright.

        Yields:
            Pairs of an index and `(3, H, W)` uint8, RGB. Skips frames that do not decode.

        Raises:
            VideoDecodeError: Nothing more decodes, and the reason is known.
        """
        ...


OpenReader = Callable[[], VideoReader]
