"""Where a page of hits ends, as a text for the address of the next page."""

import base64
import binascii
from dataclasses import dataclass

MAX_SHOWN = 500  # hits of all pages; a cursor of so many has 3,400 characters
HASH_BYTES = 5  # 500 hits among 500 candidates: one in 4 million cursors hides a hit by chance
_DEPTH_BYTES = 2


@dataclass(frozen=True)
class Cursor:
    """Where a page ends; `str` of it is short enough for an address.

    Attributes:
        depth: hits of the ranking that were looked at so far.
        shown: hashes of the hits that were shown, in order.
    """

    depth: int
    shown: tuple[bytes, ...]

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The reverse of `str`.

        Raises:
            ValueError: the text is no cursor.
        """
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"cursor={text[:40]}: is not one that a search returned") from error
        depth, rest = int.from_bytes(data[:_DEPTH_BYTES], "big"), data[_DEPTH_BYTES:]
        shown = [rest[at : at + HASH_BYTES] for at in range(0, len(rest), HASH_BYTES)]
        if not 0 < len(shown) <= depth <= MAX_SHOWN or len(rest) % HASH_BYTES:
            raise ValueError(f"cursor={text[:40]}: is not one that a search returned")
        return cls(depth, tuple(shown))

    def __str__(self) -> str:
        data = self.depth.to_bytes(_DEPTH_BYTES, "big") + b"".join(self.shown)
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
