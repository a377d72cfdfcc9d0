"""A video file -> frames -> frame embeddings -> a video embedding."""

from vision.decoding import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    VideoDecodeError,
    VideoReader,
    open_video,
)
from vision.encoding import FrameEncoder, choose_device, choose_precision
from vision.frames import Frames, iter_frames
from vision.model import DualEncoder, ModelSpec, ModelUnavailableError, load_model
from vision.pooling import mean_pool
from vision.preprocessing import Preprocessing
from vision.sampling import (
    IntervalSampler,
    Sampler,
    UniformSampler,
    frames_in_span,
    segment_spans,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "DualEncoder",
    "FrameEncoder",
    "Frames",
    "IntervalSampler",
    "ModelSpec",
    "ModelUnavailableError",
    "Preprocessing",
    "Sampler",
    "UniformSampler",
    "VideoDecodeError",
    "VideoReader",
    "choose_device",
    "choose_precision",
    "frames_in_span",
    "iter_frames",
    "load_model",
    "mean_pool",
    "open_video",
    "segment_spans",
]
