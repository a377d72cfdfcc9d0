"""A video file -> frames -> frame embeddings -> a video embedding.

The public names are imported when first used, so that what needs no PyTorch does not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision.cache_folder import default_cache_folder
    from vision.decode_pool import DecodePool, ResumePoint, WorkerLimits
    from vision.decode_worker import FailedVideo, start_decode_server
    from vision.decoding import DECODERS, Timeline, VideoReader, open_video
    from vision.encoding import FrameEncoder, choose_device, choose_precision
    from vision.errors import VideoDecodeError
    from vision.file_content import FileContent, read_content
    from vision.frames import Frames, FrameSettings, VideoEnd, iter_frames
    from vision.model import (
        DualEncoder,
        ModelSpec,
        load_model,
        model_fingerprint,
    )
    from vision.model_folder import save_model
    from vision.model_names import ModelUnavailableError, check_model_name, embedding_dim_of
    from vision.pooling import POOLING_KINDS, Pooling, make_pooling, mean_pool
    from vision.preprocessing import Preprocessing, UncroppedFrame
    from vision.sampling import (
        IntervalSampler,
        KeyFrameSampler,
        MomentSampler,
        Sampler,
        Samples,
        UniformSampler,
        frame_indices_at,
        frames_in_span,
        segment_spans,
    )
    from vision.scenes import DEFAULT_SPREAD, cut_scenes, frame_spread, scene_spans
    from vision.shots import ShotSampler
    from vision.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "DECODERS",
    "DEFAULT_SPREAD",
    "IMAGE_SUFFIXES",
    "POOLING_KINDS",
    "VIDEO_SUFFIXES",
    "DecodePool",
    "DualEncoder",
    "FailedVideo",
    "FileContent",
    "FrameEncoder",
    "FrameSettings",
    "Frames",
    "IntervalSampler",
    "KeyFrameSampler",
    "ModelSpec",
    "ModelUnavailableError",
    "MomentSampler",
    "Pooling",
    "Preprocessing",
    "ResumePoint",
    "Sampler",
    "Samples",
    "ShotSampler",
    "Timeline",
    "UncroppedFrame",
    "UniformSampler",
    "VideoDecodeError",
    "VideoEnd",
    "VideoReader",
    "WorkerLimits",
    "check_model_name",
    "choose_device",
    "choose_precision",
    "cut_scenes",
    "default_cache_folder",
    "embedding_dim_of",
    "frame_indices_at",
    "frame_spread",
    "frames_in_span",
    "iter_frames",
    "load_model",
    "make_pooling",
    "mean_pool",
    "model_fingerprint",
    "open_video",
    "read_content",
    "save_model",
    "scene_spans",
    "segment_spans",
    "start_decode_server",
]

_MODULES = {
    "DECODERS": "decoding",
    "DEFAULT_SPREAD": "scenes",
    "DecodePool": "decode_pool",
    "DualEncoder": "model",
    "FailedVideo": "decode_worker",
    "FileContent": "file_content",
    "FrameEncoder": "encoding",
    "FrameSettings": "frames",
    "Frames": "frames",
    "UncroppedFrame": "preprocessing",
    "IMAGE_SUFFIXES": "suffixes",
    "IntervalSampler": "sampling",
    "KeyFrameSampler": "sampling",
    "ModelSpec": "model",
    "ModelUnavailableError": "model_names",
    "MomentSampler": "sampling",
    "POOLING_KINDS": "pooling",
    "Pooling": "pooling",
    "Preprocessing": "preprocessing",
    "ResumePoint": "decode_pool",
    "Sampler": "sampling",
    "Samples": "sampling",
    "ShotSampler": "shots",
    "Timeline": "decoding",
    "UniformSampler": "sampling",
    "VIDEO_SUFFIXES": "suffixes",
    "VideoDecodeError": "errors",
    "VideoEnd": "frames",
    "VideoReader": "decoding",
    "WorkerLimits": "decode_pool",
    "check_model_name": "model_names",
    "choose_device": "encoding",
    "choose_precision": "encoding",
    "cut_scenes": "scenes",
    "default_cache_folder": "cache_folder",
    "embedding_dim_of": "model_names",
    "frame_spread": "scenes",
    "frames_in_span": "sampling",
    "frame_indices_at": "sampling",
    "iter_frames": "frames",
    "load_model": "model",
    "make_pooling": "pooling",
    "mean_pool": "pooling",
    "model_fingerprint": "model",
    "open_video": "decoding",
    "read_content": "file_content",
    "save_model": "model_folder",
    "scene_spans": "scenes",
    "segment_spans": "sampling",
    "start_decode_server": "decode_worker",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"vision.{_MODULES[name]}"), name)
