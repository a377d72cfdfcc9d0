"""Turns decoded frames into a model's input: resize and crop, then scale to floats.

The steps are separate: resizing runs beside the decoder, since bytes take a quarter of the memory
of floats to pass on, and scaling runs beside the model.
"""

from dataclasses import asdict, dataclass

import torch

_INTERPOLATION = ("bicubic", "bilinear")  # by the names that torchvision's enum has
_MAX_STRETCHED_ASPECT = 4 / 3  # relative to the model's aspect ratio
_RESIZE_MODES = ("shortest", "longest", "squash")


@dataclass(frozen=True)
class Preprocessing:
    """open_clip's evaluation transform for batches of frames as tensors.

    Attributes:
        size: `(height, width)` of the model's input in pixels.
        mean: Mean per channel, of values in [0, 1].
        std: Standard deviation per channel.
        interpolation: `bicubic` or `bilinear`, both with antialiasing.
        resize_mode: `shortest` (shorter edge to size, centre crop), `longest` (longer edge to
            size, padded) or `squash` (both edges to size).
        fill_color: Colour of the padding, 0 to 255.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0

    def __post_init__(self) -> None:
        if self.interpolation not in _INTERPOLATION:
            raise ValueError(
                f"interpolation is {self.interpolation!r}: must be one of {sorted(_INTERPOLATION)}"
            )
        if self.resize_mode not in _RESIZE_MODES:
            raise ValueError(f"resize_mode is {self.resize_mode!r}: must be one of {_RESIZE_MODES}")

    @classmethod
    def from_open_clip(cls, preprocess_cfg: dict) -> "Preprocessing":
        """Converts the `preprocess_cfg` that open_clip attaches to an image tower."""
        size = preprocess_cfg["size"]
        return cls(
            size=(size, size) if isinstance(size, int) else (size[0], size[1]),
            mean=tuple(preprocess_cfg["mean"]),
            std=tuple(preprocess_cfg["std"]),
            interpolation=preprocess_cfg["interpolation"] or "bicubic",
            resize_mode=preprocess_cfg["resize_mode"] or "shortest",
            fill_color=preprocess_cfg["fill_color"],
        )

    def as_dict(self) -> dict:
        return asdict(self)

    def resize(self, frames: torch.Tensor, pixel_aspect: float = 1.0) -> torch.Tensor:
        """Resizes and crops: `(..., 3, H, W)` uint8 to `(..., 3, *size)` uint8.

        Args:
            frames: Frames of one size.
            pixel_aspect: Width / height of a pixel. Frames to be cropped are stretched to at most
                4:3 of the model's aspect ratio.
        """
        # Imported here: a search by words resizes nothing, and this takes seconds.
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        target_height, target_width = self.size
        height, stored_width = frames.shape[-2:]
        if self.resize_mode == "shortest":
            aspect = stored_width / height / (target_width / target_height)
            pixel_aspect = _useful_stretch(pixel_aspect, aspect)
        width = stored_width * pixel_aspect
        interpolation = InterpolationMode(self.interpolation)
        if self.resize_mode == "squash":
            new_height, new_width = target_height, target_width
        else:
            ratios = (target_height / height, target_width / width)
            scale = max(ratios) if self.resize_mode == "shortest" else min(ratios)
            # open_clip uses torchvision's Resize, which truncates, for `shortest` and square sizes,
            # and its own ResizeKeepRatio, which rounds, otherwise.
            truncates = self.resize_mode == "shortest" and target_height == target_width
            to_pixels = int if truncates else round
            if self.resize_mode == "shortest" and not truncates:
                interpolation = InterpolationMode.BICUBIC  # here open_clip ignores the setting
            new_height, new_width = target_height, target_width
            if scale == ratios[0]:
                new_width = max(1, to_pixels(target_height * width / height))
            else:
                new_height = max(1, to_pixels(target_width * height / width))
        resized = TF.resize(
            frames,
            [new_height, new_width],
            interpolation=interpolation,
            antialias=True,
        )
        if self.resize_mode == "longest":
            left, top = (target_width - new_width) // 2, (target_height - new_height) // 2
            right, bottom = target_width - new_width - left, target_height - new_height - top
            resized = TF.pad(resized, [left, top, right, bottom], fill=[float(self.fill_color)])
        return TF.center_crop(resized, [target_height, target_width])

    def normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """Scales and normalises: `(T, 3, *size)` uint8 to float32."""
        mean = torch.tensor(self.mean, device=frames.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=frames.device).view(3, 1, 1)
        return (frames.float() / 255.0 - mean) / std


@dataclass(frozen=True)
class UncroppedFrame:
    """Keeps whole frames with square pixels, and only scales down large ones.

    Attributes:
        longest_pixels: Maximum length of the longer side.
    """

    longest_pixels: int = 1280

    def __post_init__(self) -> None:
        if self.longest_pixels < 1:
            raise ValueError(f"longest_pixels is {self.longest_pixels}: must be at least 1")

    @property
    def size(self) -> tuple[int, int]:
        """Returns the size of an empty frame, since each video has its own size."""
        return 0, 0

    def resize(self, frames: torch.Tensor, pixel_aspect: float = 1.0) -> torch.Tensor:
        """`(..., 3, H, W)` uint8 to `(..., 3, H', W')` uint8."""
        height, width = frames.shape[-2:]
        shown = (height / min(1.0, pixel_aspect), width * max(1.0, pixel_aspect))
        scale = min(1.0, self.longest_pixels / max(shown))
        size = [max(1, round(scale * shown[0])), max(1, round(scale * shown[1]))]
        if size == [height, width]:
            return frames

        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as TF

        return TF.resize(frames, size, interpolation=InterpolationMode.BILINEAR, antialias=True)


def _useful_stretch(pixel_aspect: float, aspect: float) -> float:
    """Limits the stretching of non-square pixels of a frame that will be cropped.

    Stretching beyond 4:3 of the model's aspect ratio costs more at the sides, by cropping, than it
    gains. Frames that are stored longer stay as they are. Two thirds of MSR-VTT are 16:9 stored as
    4:3; with `mini` on half of 1k-A (6 frames), t2v R@1/5/10 is 7.4/19.1/27.1 when stretched to
    16:9 and 9.0/19.5/27.9 when stretched to 4:3.

    Args:
        pixel_aspect: Width / height of a pixel.
        aspect: Aspect ratio of the stored frame relative to the model's.
    """
    if pixel_aspect > 1:
        return max(1.0, min(pixel_aspect, _MAX_STRETCHED_ASPECT / aspect))
    return min(1.0, max(pixel_aspect, 1 / (_MAX_STRETCHED_ASPECT * aspect)))
