"""Names a state of the index, so that a search can wait until it sees a write."""

import re
from dataclasses import dataclass

_FORM = re.compile(r"(\d{1,18})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, order=True)
class StateToken:
    """The state after a write, or a later one.

    A worker has it when its snapshot's generation is at least this one: deletions count from the
    moment they are written, everything else from when it is published.

    Attributes:
        generation: of the manifest.
        revision: the catalogue's count of changes.
    """

    generation: int
    revision: int

    def __str__(self) -> str:
        """Such as `12.345`."""
        return f"{self.generation}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> "StateToken":
        """The reverse of `str`.

        Raises:
            ValueError: it is no token.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:40]!r} is no token that a write returned")
        return cls(int(match[1]), int(match[2]))
