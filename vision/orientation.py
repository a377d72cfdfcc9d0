"""A frame as it is stored -> as it is meant to be seen: turned, mirrored, with square pixels."""

from fractions import Fraction

import numpy as np
import torch
from av.video.frame import VideoFrame
from torchvision.transforms.v2 import functional as TF

_ALMOST_SQUARE = 0.02  # a pixel's width and height may differ by this share
_MOST_STRETCHED = 8  # beyond this, a pixel's stated shape is damage


def upright(
    pixels: torch.Tensor, *, matrix: np.ndarray | None, pixel_aspect: Fraction | None
) -> torch.Tensor:
    """Applies what players apply.

    Args:
        pixels: `(3, H, W)` uint8.
        matrix: `(2, 2)`, of `display_matrix`.
        pixel_aspect: a pixel's width by its height.

    Returns:
        `(3, H', W')` uint8. The shorter side of a pixel is stretched, so that nothing is lost.
    """
    pixels = _square(pixels, pixel_aspect)
    if matrix is None:
        return pixels
    turned = np.abs(matrix).round(2)
    if (turned == np.eye(2)).all():
        horizontal, vertical = matrix[0, 0], matrix[1, 1]
    elif (turned == np.eye(2)[::-1]).all():
        pixels = pixels.transpose(1, 2)
        horizontal, vertical = matrix[1, 0], matrix[0, 1]
    else:  # of an angle that no camera is held at, or damaged
        return pixels
    mirrored = [axis for axis, factor in ((1, vertical), (2, horizontal)) if factor < 0]
    return pixels.flip(mirrored) if mirrored else pixels


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
    is_sane = 1 / _MOST_STRETCHED <= aspect <= _MOST_STRETCHED
    return not is_sane or abs(aspect - 1) <= _ALMOST_SQUARE


def is_turned(matrix: np.ndarray | None) -> bool:
    """Whether the display matrix turns or mirrors."""
    return matrix is not None and not np.allclose(matrix, np.eye(2), atol=0.01)


def _square(pixels: torch.Tensor, pixel_aspect: Fraction | None) -> torch.Tensor:
    if has_square_pixels(pixel_aspect):
        return pixels
    aspect = float(pixel_aspect or 1)
    height, width = pixels.shape[1:]
    size = [height, round(width * aspect)] if aspect > 1 else [round(height / aspect), width]
    return TF.resize(pixels, size, antialias=True)
