"""A video file -> frames -> frame embeddings -> a video embedding."""

from vision.decode_pool import DecodePool, WorkerLimits
from vision.decode_worker import FailedVideo, start_decode_server
from vision.decoding import (
    DECODERS,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Timeline,
    VideoReader,
    open_video,
)
from vision.encoding import FrameEncoder, choose_device, choose_precision
from vision.errors import VideoDecodeError
from vision.frames import Frames, FrameSettings, VideoEnd, iter_frames
from vision.mini import default_cache_folder
from vision.model import (
    DualEncoder,
    ModelSpec,
    ModelUnavailableError,
    load_model,
    model_fingerprint,
)
from vision.model_folder import save_model
from vision.pooling import POOLING_KINDS, Pooling, make_pooling, mean_pool
from vision.preprocessing import FullPicture, Preprocessing
from vision.sampling import (
    IntervalSampler,
    KeyFrameSampler,
    MomentSampler,
    Sampler,
    Samples,
    UniformSampler,
    frames_in_span,
    frames_on_screen,
    segment_spans,
)
from vision.scenes import DEFAULT_SPREAD, cut_scenes, frame_spread, scene_spans
from vision.shots import ShotSampler

__all__ = [
    "DECODERS",
    "DEFAULT_SPREAD",
    "IMAGE_SUFFIXES",
    "POOLING_KINDS",
    "VIDEO_SUFFIXES",
    "DecodePool",
    "DualEncoder",
    "FailedVideo",
    "FrameEncoder",
    "FrameSettings",
    "Frames",
    "FullPicture",
    "IntervalSampler",
    "KeyFrameSampler",
    "ModelSpec",
    "ModelUnavailableError",
    "MomentSampler",
    "Pooling",
    "Preprocessing",
    "Sampler",
    "Samples",
    "ShotSampler",
    "Timeline",
    "UniformSampler",
    "VideoDecodeError",
    "VideoEnd",
    "VideoReader",
    "WorkerLimits",
    "choose_device",
    "choose_precision",
    "cut_scenes",
    "default_cache_folder",
    "frame_spread",
    "frames_in_span",
    "frames_on_screen",
    "iter_frames",
    "load_model",
    "make_pooling",
    "mean_pool",
    "model_fingerprint",
    "open_video",
    "save_model",
    "scene_spans",
    "segment_spans",
    "start_decode_server",
]
