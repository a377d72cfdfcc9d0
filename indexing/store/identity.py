"""What a root and a video are called, whatever index they are in and wherever they lie by now.

A root is named after the path at which it was first seen, a video after its root and its key. Both
names are kept in the catalogue: what moves, or is copied into another index, keeps its name.
"""

import base64
import hashlib

_ROOT_LENGTH = 8
_VIDEO_LENGTH = 12  # 60 bits: of a million videos two share a name once in two million times


def make_root_id(path: str, number: int = 0) -> str:
    """A root's name; another one for each number, where the first is taken."""
    return _short_hash(f"{path}\0{number}" if number else path, _ROOT_LENGTH)


def make_video_id(root: str, key: str, number: int = 0) -> str:
    """A video's name; another one for each number, where the first is taken."""
    return _short_hash(f"{root}\0{key}" + (f"\0{number}" if number else ""), _VIDEO_LENGTH)


def _short_hash(text: str, length: int) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return base64.b32encode(digest).decode().lower()[:length]
