"""An index of videos by five authors, whole and in shards, and what was learned of users who each
like one of them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from reelseek.indexing import IndexReader
from reelseek.recommendation.learning.examples import UNKNOWN_VIDEO, VideoFacts
from reelseek.recommendation.learning.learner import Learner
from reelseek.recommendation.learning.model import OnlineModel
from reelseek.recommendation.learning.store import ModelStore
from reelseek.recommendation.personal import follower as followers
from reelseek.recommendation.personal.facts import IndexVideos
from reelseek.serving.services import Services
from tests.indexing.shards.collection import collection, make_index
from tests.recommendation.personal.learned import JOIN, NUM_AUTHORS, SETTINGS, Events


@dataclass(frozen=True)
class Authors:
    """Where they are, and the time at which learning ended."""

    one: Path
    shards: Path
    model: Path
    position: int
    now_seconds: float


def with_authors(num: int):
    """A collection of videos, one of which failed, and their texts."""
    held, texts = collection(num=num)
    return [
        (replace(video, metadata=video.metadata | {"author": f"author {n % NUM_AUTHORS}"}), rows)
        for n, (video, rows) in enumerate(held)
    ], texts


def authors(folder: Path, held, texts, *, num_shards: int) -> Authors:
    """Users u0 to u19 watch nothing but videos of author N % 5. What videos show is not learned, as
    the workers of a cluster do not know it of hits."""
    one = make_index(folder / "one", held, texts, num_shards=1)
    shards = make_index(folder / "shards", held, texts, num_shards=num_shards)
    with closing(IndexReader(one)) as reader:
        by_name = reader.ids_by_name()
    ids = [by_name[video.key][0] for video, _ in held if video.key in by_name]
    log = Events(600, num_videos=len(ids), name_of=lambda number: ids[number])
    videos = IndexVideos(shards)

    def facts_of(video: str) -> VideoFacts:
        return replace(videos(video) or UNKNOWN_VIDEO, code=b"")

    with ModelStore(folder / "learned") as store:
        learner = Learner(log, store, model=OnlineModel(SETTINGS), join=JOIN, facts_of=facts_of)
        while learner.step():
            pass
    videos.close()
    return Authors(one, shards, folder / "learned", learner.position, log.now_seconds)


@contextmanager
def at_the_end_of(made: Authors) -> Iterator[None]:
    """Scores are as of the end of what was learned; other clocks go on."""
    with pytest.MonkeyPatch.context() as patch:
        clock = SimpleNamespace(time=lambda: made.now_seconds, monotonic=lambda: 1e9)
        patch.setattr(followers, "time", clock)
        yield


def follow(services: Services) -> None:
    """Takes over what was learned, as the thread of a worker does."""
    assert services.personal is not None
    services.personal._follower.poll()
