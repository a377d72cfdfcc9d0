"""A video -> its public id, while the catalogues that know the ids are lent to writers."""

from collections.abc import Iterator, Mapping
from itertools import count

from reelseek.indexing.store.identity import make_video_id
from reelseek.indexing.store.videos import NewVideo


class PublicIds:
    """The ids of an index's videos, and those given since.

    Args:
        known: ids by root and key.
    """

    def __init__(self, known: Mapping[tuple[str, str], str]) -> None:
        self._ids = dict(known)
        self._owners = {public_id: name for name, public_id in self._ids.items()}

    def of(self, video: NewVideo) -> str:
        """Returns the id that a video has or gets, which no other video has."""
        known = self._ids.get(video.root_and_key)
        for public_id in [known] if known else _new_ids(video):
            if self._owners.setdefault(public_id, video.root_and_key) == video.root_and_key:
                return public_id
        raise AssertionError("unreachable")


def _new_ids(video: NewVideo) -> Iterator[str]:
    return (make_video_id(video.root, video.key, number) for number in count())
