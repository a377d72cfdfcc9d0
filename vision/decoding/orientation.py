"""Turns, mirrors and stretches stored frames into the frames that players show."""

from fractions import Fraction

import numpy as np
import torch
from av.video.frame import VideoFrame

_ALMOST_SQUARE = 0.02  # tolerated difference between a pixel's width and height
_MAX_PIXEL_ASPECT = 8  # a larger stated aspect ratio is damage


def turn(
    pixels: torch.Tensor, *, matrix: np.ndarray | None, pixel_aspect: Fraction | None
) -> tuple[torch.Tensor, float]:
    """Turns and mirrors a frame as players do.

    Args:
        pixels: `(3, H, W)` uint8.
        matrix: `(2, 2)`, from `display_matrix`.
        pixel_aspect: Width / height of a stored pixel, as the file states it.

    Returns:
        `(3, H', W')` uint8, and the aspect ratio (width / height) of its pixels: 1.0 if the
        file's pixels are almost square, or if the stated ratio is damage.
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
    else:  # a damaged matrix, or an angle at which nobody holds a camera
        return pixels, aspect
    mirrored = [axis for axis, factor in ((1, vertical), (2, horizontal)) if factor < 0]
    return (pixels.flip(mirrored) if mirrored else pixels), aspect


def square(pixels: torch.Tensor, pixel_aspect: float) -> torch.Tensor:
    """Makes pixels square by stretching their shorter side, so that no detail is lost.

    Args:
        pixels: `(..., H, W)` uint8.
        pixel_aspect: Width / height of a pixel.

    Returns:
        `(..., H', W')` uint8.
    """
    if pixel_aspect == 1:
        return pixels
    # Imported here: this takes seconds, also in processes that decode nothing themselves.
    from torchvision.transforms.v2 import functional as TF

    height, width = pixels.shape[-2:]
    if pixel_aspect > 1:
        width = round(width * pixel_aspect)
    else:
        height = round(height / pixel_aspect)
    return TF.resize(pixels, [height, width], antialias=True)


def display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """Returns the `(2, 2)` part of the frame's display matrix that turns and mirrors, or None.

    A stored point `(x, y)` is shown at `(x, y) @ matrix` (ISO/IEC 14496-12, section 6.2.2).
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return None
    values = np.frombuffer(memoryview(side_data), dtype=np.int32)[:9].astype(np.float64)  # type: ignore[arg-type]
    return values.reshape(3, 3)[:2, :2] / 65536


def has_square_pixels(pixel_aspect: Fraction | None) -> bool:
    """Whether to treat a pixel's stated aspect ratio as 1."""
    aspect = float(pixel_aspect or 1)
    is_sane = 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT
    return not is_sane or abs(aspect - 1) <= _ALMOST_SQUARE


def is_turned(matrix: np.ndarray | None) -> bool:
    """Whether the display matrix turns or mirrors."""
    return matrix is not None and not np.allclose(matrix, np.eye(2), atol=0.01)
