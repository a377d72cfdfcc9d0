"""A remote object as a listing shows it: its URL, and the signature that tells whether it changed.

The catalogue keeps a size and a time of each file. For an object the whole seconds of that time are
its modification time, and the nanoseconds are 30 bits of a hash of its ETag: two contents of the
same size are taken for one once in 10^9 times.
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from reelseek.indexing.store.videos import FileSignature
from reelseek.vision import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_SECOND_NS = 10**9


@dataclass(frozen=True)
class RemoteObject:
    """An object in a bucket, or a file on a web server.

    Attributes:
        url: as it is stored, without a query.
        size_bytes: None while unknown, and where the server does not say.
        etag: changes with the content: the ETag, or what the store has in its place.
        modified_seconds: time of its last change, since 1970; None if unknown.
        request_url: what to ask for, with the query; may hold a signature, and is never shown.
    """

    url: str
    size_bytes: int | None = None
    etag: str = ""
    modified_seconds: float | None = None
    request_url: str = field(default="", repr=False)

    @property
    def is_looked_at(self) -> bool:
        """Whether its size and ETag are known as far as the store tells them."""
        return self.size_bytes is not None or bool(self.etag)

    @property
    def version(self) -> tuple[int | None, str]:
        """Size and ETag, which change with the content."""
        return self.size_bytes, self.etag

    def modified_ns(self) -> int:
        """Returns what stands for a file's time: seconds, and the hash of the ETag."""
        seconds = time.time() if self.modified_seconds is None else self.modified_seconds
        return int(seconds) * _SECOND_NS + self._etag_hash()

    def is_same(self, signature: FileSignature) -> bool:
        """Whether the object still is what was indexed, by its size and ETag."""
        has_size = self.size_bytes is None or self.size_bytes == signature.size_bytes
        return has_size and signature.modified_ns % _SECOND_NS == self._etag_hash()

    def cached_name(self) -> str:
        """Returns a name for a local copy: a hash, since names in a bucket are data. It keeps the
        suffix of a video or an image, which tells decoders what to expect."""
        suffix = PurePosixPath(self.url).suffix.lower()
        digest = hashlib.sha256(self.url.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return digest + (suffix if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES else "")

    def _etag_hash(self) -> int:
        digest = hashlib.sha256(self.etag.encode()).digest()
        return int.from_bytes(digest[:8], "big") % _SECOND_NS
