"""Which shard of an index a video is in, and how a shard knows which one it is."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

SHARD_METADATA = "shard"  # under this name a shard's catalogue has its `ShardPlace`

_FORM = re.compile(r"([0-9a-f]{16,64}) (\d{1,9}) of (\d{1,9})", re.ASCII)


def shard_of(public_id: str, num_shards: int) -> int:
    """Returns the position of a video's shard: a hash of its id, which is made of its root and key
    and stays the same when it moves."""
    digest = hashlib.sha256(public_id.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % num_shards


def missing_shard(folder: Path, shard: Path) -> str:
    """Returns the message about an index that lacks one of its shards."""
    return (
        f"index={folder}: its shard {shard} is missing; put it back, or index again into a new "
        "folder"
    )


@dataclass(frozen=True)
class ShardPlace:
    """The place of a shard.

    Attributes:
        sharding: the id of the index's division.
        position: of the shard in it.
        num_shards: of the index.
    """

    sharding: str
    position: int
    num_shards: int

    def __str__(self) -> str:
        return f"{self.sharding} {self.position} of {self.num_shards}"

    @classmethod
    def parse(cls, text: str) -> "ShardPlace":
        """The reverse of `str`.

        Raises:
            ValueError: it is no place.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:40]!r} is not the place of a shard")
        return cls(match[1], int(match[2]), int(match[3]))
