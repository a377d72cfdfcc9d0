"""A frame as it is stored -> as it is meant to be seen: turned, mirrored, with square pixels."""

from fractions import Fraction

import numpy as np
import torch
from av.video.frame import VideoFrame
from torchvision.transforms.v2 import functional as TF

_ALMOST_SQUARE = 0.02  # a pixel's width and height may differ by this share
_MAX_PIXEL_ASPECT = 8  # beyond this, a pixel's stated shape is damage


def turn(
    pixels: torch.Tensor, *, matrix: np.ndarray | None, pixel_aspect: Fraction | None
) -> tuple[torch.Tensor, float]:
    """Turns and mirrors as players do.

    Args:
        pixels: `(3, H, W)` uint8.
        matrix: `(2, 2)`, of `display_matrix`.
        pixel_aspect: a stored pixel's width by its height, as the file states it.

    Returns:
        `(3, H', W')` uint8, and the width by the height of a pixel of it: 1.0 where the file's
        pixels are almost square, or where what it states is damage.
    """
    aspect = 1.0 if has_square_pixels(pixel_aspect) else float(pixel_aspect or 1)
    if matrix is None:
        return pixels, aspect
    turned = np.abs(matrix).round(2)
    if (turned == np.eye(2)).all():
        horizontal, vertical = matrix[0, 0], matrix[1, 1]
    elif (turned == np.eye(2)[::-1]).all():
        pixels, aspect = pixels.transpose(1, 2), 1 / aspect
        horizontal, vertical = matrix[1, 0], matrix[0, 1]
    else:  # of an angle that no camera is held at, or damaged
        return pixels, aspect
    mirrored = [axis for axis, factor in ((1, vertical), (2, horizontal)) if factor < 0]
    return (pixels.flip(mirrored) if mirrored else pixels), aspect


def square(pixels: torch.Tensor, pixel_aspect: float) -> torch.Tensor:
    """Stretches the shorter side of the pixels, so that they are square and nothing is lost:
    `(..., H, W)` uint8 to `(..., H', W')`."""
    if pixel_aspect == 1:
        return pixels
    height, width = pixels.shape[-2:]
    stretches_width = pixel_aspect > 1
    size = (
        [height, round(width * pixel_aspect)]
        if stretches_width
        else [round(height / pixel_aspect), width]
    )
    return TF.resize(pixels, size, antialias=True)


def display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """The `(2, 2)` part of the frame's display matrix that turns and mirrors: a stored point
    `(x, y)` is shown at `(x, y) @ matrix`. None where the frame has none.

    Source: ISO/IEC 14496-12, section 6.2.2.
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return None
    values = np.frombuffer(memoryview(side_data), dtype=np.int32)[:9].astype(np.float64)  # type: ignore[arg-type]
    return values.reshape(3, 3)[:2, :2] / 65536


def has_square_pixels(pixel_aspect: Fraction | None) -> bool:
    """Whether a pixel's width by its height is to be taken as 1."""
    aspect = float(pixel_aspect or 1)
    is_sane = 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT
    return not is_sane or abs(aspect - 1) <= _ALMOST_SQUARE


def is_turned(matrix: np.ndarray | None) -> bool:
    """Whether the display matrix turns or mirrors."""
    return matrix is not None and not np.allclose(matrix, np.eye(2), atol=0.01)
