"""A history without context -> effects of users and videos, which a new model begins with.

The share of long watches of user u and video v is mean + b_u + b_v, fitted by backfitting (Hastie
and Tibshirani 1990, section 4.4). Each effect is a mean of residuals, shrunk as if `shrinkage` more
had that of the group above: the video's author, the author's tag, and 0.
"""

from dataclasses import dataclass, field

import numpy as np

from reelseek.recommendation.learning.impressions import History

__all__ = ["Effect", "Prior", "fit_prior"]

_NUM_ROUNDS = 6
_SHRINKAGE = {"user": 5.0, "video": 10.0, "author": 20.0, "tag": 50.0}
_NONE = (0.0, 0.0)

Effect = tuple[float, float]  # in log-odds, and the number of pairs that it is from


@dataclass(frozen=True)
class Prior:
    """Effects by id."""

    user: dict[object, Effect] = field(default_factory=dict)
    video: dict[object, Effect] = field(default_factory=dict)
    author: dict[object, Effect] = field(default_factory=dict)
    tag: dict[object, Effect] = field(default_factory=dict)

    def of_video(self, video: object, author: object, *, tag: object) -> Effect:
        """Returns the video's effect; of an unknown one, that of its author, or else of its tag."""
        found = self.video.get(video)
        if found is not None:
            return found
        above = self.author.get(author) or self.tag.get(tag) or _NONE
        return above[0], 0.0


def fit_prior(
    history: History, authors: dict[object, object], *, tags: dict[object, object]
) -> Prior:
    """Fits the effects.

    Args:
        authors, tags: of videos, by id; where there is none, the video has a group of its own kind.
    """
    if not len(history.is_long):
        return Prior()
    user_ids, user = np.unique(history.user, return_inverse=True)
    video_ids, video = np.unique(history.video, return_inverse=True)
    author_ids, author_of = _groups([authors.get(video) for video in video_ids.tolist()])
    tag_ids, tag_of = _groups([tags.get(video) for video in video_ids.tolist()])
    tag_of_author = np.zeros(len(author_ids), np.int64)
    tag_of_author[author_of] = tag_of

    is_long = history.is_long.astype(np.float64)
    mean = is_long.mean()
    effects = {"user": np.zeros(len(user_ids)), "video": np.zeros(len(video_ids))}
    for _ in range(_NUM_ROUNDS):
        residual = is_long - mean - effects["user"][user]
        tag = _shrunken(residual, tag_of[video], num=len(tag_ids), kind="tag")
        above = tag[tag_of_author]
        author = _shrunken(
            residual, author_of[video], num=len(author_ids), kind="author", above=above
        )
        above = author[author_of]
        effects["video"] = _shrunken(residual, video, num=len(video_ids), kind="video", above=above)
        residual = is_long - mean - effects["video"][video]
        effects["user"] = _shrunken(residual, user, num=len(user_ids), kind="user")

    scale = 1 / max(mean * (1 - mean), 0.01)  # the slope of log-odds at the mean

    def named(ids: list, values: np.ndarray, group: np.ndarray) -> dict[object, Effect]:
        counts = np.bincount(group, minlength=len(ids)).tolist()
        pairs = zip(ids, (values * scale).tolist(), counts, strict=True)
        return {each: (value, float(count)) for each, value, count in pairs if each is not None}

    return Prior(
        user=named(user_ids.tolist(), effects["user"], user),
        video=named(video_ids.tolist(), effects["video"], video),
        author=named(author_ids, author, author_of[video]),
        tag=named(tag_ids, tag, tag_of[video]),
    )


def _groups(ids: list) -> tuple[list, np.ndarray]:
    """Returns the distinct ids, in order of appearance, and the index of each."""
    distinct = list(dict.fromkeys(ids))
    index_of = {each: index for index, each in enumerate(distinct)}
    return distinct, np.array([index_of[each] for each in ids], np.int64)


def _shrunken(
    residual: np.ndarray,
    group: np.ndarray,
    *,
    num: int,
    kind: str,
    above: np.ndarray | float = 0.0,
) -> np.ndarray:
    total = np.bincount(group, residual, num)
    count = np.bincount(group, minlength=num)
    return (total + _SHRINKAGE[kind] * above) / (count + _SHRINKAGE[kind])
