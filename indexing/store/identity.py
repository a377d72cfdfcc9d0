"""Names of roots and videos, which stay the same in every index and place.

A root is named after the path at which it was first seen, a video after its root and its key. The
catalogue keeps both names: a video that moves, or is copied into another index, keeps its name.
"""

import base64
import hashlib

_ROOT_LENGTH = 8
_VIDEO_LENGTH = 12  # 60 bits: of a million videos two share a name once in two million times


def make_root_id(path: str, number: int = 0) -> str:
    """Returns a root's name; with higher numbers further ones, where the first is taken."""
    return _short_hash(f"{path}\0{number}" if number else path, _ROOT_LENGTH)


def make_video_id(root: str, key: str, number: int = 0) -> str:
    """Returns a video's name; with higher numbers further ones, where the first is taken."""
    return _short_hash(f"{root}\0{key}" + (f"\0{number}" if number else ""), _VIDEO_LENGTH)


def _short_hash(text: str, length: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return base64.b32encode(digest).decode().lower()[:length]
