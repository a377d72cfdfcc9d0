"""What the routes of a worker need, in one place."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelseek.configs.schema import ServeConfig
from reelseek.recommendation.events.log import EventLog
from reelseek.serving.admission import Admission
from reelseek.serving.channel import Client
from reelseek.serving.errors import ApiError

if TYPE_CHECKING:
    from reelseek.ranking.searcher import Searcher
    from reelseek.serving.personalizing import Personalization
    from reelseek.serving.recommending import Recommendations


@dataclass(frozen=True)
class Sockets:
    """Where the other processes listen; None for those that do not run."""

    encoder: Path
    media: Path | None = None
    library: Path | None = None


@dataclass
class Services:
    """What the routes of a worker need.

    Attributes:
        config: of the whole service.
        admission: lets searches in, or sheds them.
        encoder: the process that has the model.
        media: cuts thumbnails and clips; None where none is cut.
        library: writes the index; None where it is only read.
        upload_folder: for files that are searched by; private to this user.
        look_now: wakes what follows the index.
        ready: set when there is a searcher.
        events: what users do; None where nothing is kept.
        search: has searches answered elsewhere; None where this process searches.
        recommendations: what related videos and the feed are made from; made with the application.
        personal: orders hits for a user, likewise; None where that is off.
    """

    config: ServeConfig
    admission: Admission
    encoder: Client
    media: Client | None = None
    library: Client | None = None
    upload_folder: Path | None = None
    look_now: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)
    events: EventLog | None = None
    search: Callable[..., Any] | None = None
    recommendations: "Recommendations | None" = None
    personal: "Personalization | None" = None
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

    def opened_searcher(self) -> "Searcher | None":
        """Returns the searcher; None as long as there is none."""
        return self._searcher

    def set_searcher(self, searcher: "Searcher") -> None:
        self._searcher = searcher
        self.ready.set()
