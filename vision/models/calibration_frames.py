"""Draws frames whose statistics resemble those of photographs, to calibrate a quantised model with.

Opaque shapes of all sizes cover each other, the dead leaves model (Lee, Mumford and Huang 2001,
"Occlusion Models for Natural Images: A Statistical Study of the Scale-Invariant Dead Leaves Model",
section 2). Drawn frames need no data set, and give each machine the same model; `mini`, calibrated
with them, is as near to float32 as calibrated with frames of videos.
"""

import numpy as np

_SEED = 0
_SHAPES_PER_FRAME = 60
_COLORS_PER_FRAME = 6


def draw_frames(num_frames: int, size: tuple[int, int]) -> np.ndarray:
    """Returns frames, `(num_frames, 3, *size)` uint8, always the same."""
    random = np.random.default_rng(_SEED)
    return np.stack([_draw_frame(random, *size) for _ in range(num_frames)])


def _draw_frame(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    palette = random.uniform(0, 255, (_COLORS_PER_FRAME, 3))
    frame = np.empty((3, height, width), dtype=np.float32)
    frame[:] = palette[0, :, None, None]
    for _ in range(_SHAPES_PER_FRAME):
        radius = 0.5 * height * random.uniform(0.02, 1) ** 2
        color = random.choice(palette) + random.normal(0, 20, 3)
        _paint(frame, random, radius=radius, color=color)
    frame += random.normal(0, random.uniform(0, 12), (1, height, width))  # grain
    return frame.clip(0, 255).astype(np.uint8)


def _paint(
    frame: np.ndarray, random: np.random.Generator, *, radius: float, color: np.ndarray
) -> None:
    """Paints an ellipse or a rectangle, turned, with a gradient and stripes."""
    height, width = frame.shape[1:]
    center_y, center_x = random.uniform(0, height), random.uniform(0, width)
    reach = 1.5 * radius + 1  # of the corners
    top, left = max(0, int(center_y - reach)), max(0, int(center_x - reach))
    part = frame[:, top : int(center_y + reach) + 1, left : int(center_x + reach) + 1]

    y, x = np.mgrid[: part.shape[1], : part.shape[2]].astype(np.float32)
    y, x = (y + top - center_y) / radius, (x + left - center_x) / radius
    angle = random.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) / random.uniform(0.3, 1)
    is_ellipse = random.random() < 0.5
    inside = np.hypot(along, across) < 1 if is_ellipse else np.maximum(abs(along), abs(across)) < 1

    gradient = 1 + 0.3 * random.normal() * along[inside]
    stripes = random.normal(0, random.uniform(0, 20)) * np.sin(
        random.uniform(1, 20) * across[inside]
    )
    part[:, inside] = color[:, None] * gradient + stripes
