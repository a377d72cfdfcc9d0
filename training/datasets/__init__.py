"""The published caption files of video retrieval -> captioned videos."""

from reelseek.training.datasets.captioned import read_captioned

__all__ = ["read_captioned"]
