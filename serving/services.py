"""What the routes of a worker need, in one place."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reelseek.configs.schema import ServeConfig
from reelseek.serving.admission import Admission
from reelseek.serving.channel import Client
from reelseek.serving.errors import ApiError

if TYPE_CHECKING:
    from reelseek.ranking.searcher import Searcher


@dataclass
class Services:
    """What the routes of a worker need.

    Attributes:
    config: of the whole service.
    admission: lets searches in, or sheds them.
    media: cuts thumbnails and clips; None where none is cut.
    library: writes the index; None where it is only read.
    """

    config: ServeConfig
    admission: Admission
    media: Client | None = None
    library: Client | None = None
    _searcher: "Searcher | None" = field(default=None, repr=False)

    @property
    def searcher(self) -> "Searcher":
        """Raises an ApiError as long as there is none."""
        if self._searcher is None:
            raise ApiError(
                503,
                "not_ready",
                "nothing can be searched yet: the first videos are being indexed, or the model is "
                "being loaded",
                retry_after_seconds=2,
            )
        return self._searcher

    @property
    def is_ready(self) -> bool:
        return self._searcher is not None

    def set_searcher(self, searcher: "Searcher") -> None:
        self._searcher = searcher
