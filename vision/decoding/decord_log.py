"""What decord's FFmpeg logs -> how often it has met something wrong.

decord passes on neither the damage that its decoder notices, nor the frames that it drops, nor that
it has squeezed a frame of another size into the first one's; FFmpeg logs each. decord has FFmpeg
libraries of its own, so PyAV's are not watched here.
"""

import ctypes

import decord
from decord._ffi.base import _LIB

_WARNING_LEVEL, _INFO_LEVEL = 24, 32  # AV_LOG_WARNING and AV_LOG_INFO; what is worse is lower
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
    """Counts from now on, and prints nothing; whether that is possible with this build."""
    decord.logging.set_level(decord.logging.QUIET)
    if _set_callback is not None:
        _set_callback(_count)
    return _set_callback is not None


def num_complaints() -> int:
    """So far, of all of this process's readers."""
    return _num_complaints
