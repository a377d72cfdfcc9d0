"""Counts the problems that decord's FFmpeg logs.

decord hides damage, dropped frames, and frames of another size that it squeezes into the first
frame's size; its FFmpeg logs each of them. decord has its own FFmpeg libraries, so this does not
count PyAV's messages.
"""

import ctypes

import decord
from decord._ffi.base import _LIB

_WARNING_LEVEL, _INFO_LEVEL = 24, 32  # AV_LOG_WARNING and AV_LOG_INFO; lower is worse
_HARMLESS_WARNINGS = (b"deprecated pixel format", b"Failed to parse extradata")
_TELLING_INFOS = (b"concealing", b"Changing frame properties on the fly")

_num_complaints = 0
_set_callback = getattr(_LIB, "av_log_set_callback", None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def _count(source: int, level: int, template: int, arguments: int) -> None:
    global _num_complaints
    if level > _INFO_LEVEL:
        return
    message = ctypes.string_at(template)
    if level <= _WARNING_LEVEL:
        _num_complaints += not message.startswith(_HARMLESS_WARNINGS)
    else:
        _num_complaints += message.startswith(_TELLING_INFOS)


def watch_log() -> bool:
    """Starts counting and silences decord. Returns False if this build does not allow it."""
    decord.logging.set_level(decord.logging.QUIET)
    if _set_callback is not None:
        _set_callback(_count)
    return _set_callback is not None


def num_complaints() -> int:
    """Returns the count so far, over all readers of this process."""
    return _num_complaints
