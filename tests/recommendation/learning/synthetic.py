"""A small log of impressions, in which users, videos and tabs differ."""

import numpy as np

from reelseek.recommendation.learning.impressions import Impressions, Outcomes

START_MS = 1_650_816_000_000


def log(
    num: int = 600, *, seed: int = 0, num_users: int = 25, num_videos: int = 40
) -> tuple[Impressions, Outcomes]:
    """Returns impressions in order of time, some at the same moment, and their outcomes."""
    rng = np.random.default_rng(seed)
    user, video = rng.integers(num_users, size=num), rng.integers(num_videos, size=num)
    tab = rng.integers(3, size=num)
    time_ms = START_MS + np.sort(rng.integers(4 * num, size=num)) * 20_000
    logit = rng.normal(0, 1, num_users)[user] + rng.normal(0, 1, num_videos)[video] - tab
    drawn = rng.random((num, 3)) < 1 / (1 + np.exp(-logit))[:, None] * [1.0, 1.0, 0.1]
    impressions = Impressions(
        user=user,
        video=video,
        time_ms=time_ms,
        tab=tab,
        author=video // 3,
        tag=np.array([str(v % 5) for v in video], object),
        duration_ms=np.where(video % 7 == 0, np.nan, 7e3 * (1 + video)),
        upload_day=np.where(video % 11 == 0, np.nan, 19_090.0 - video % 9),
        position=np.where(user % 3 == 0, 0, 1 + video % 14),
        query=np.array(
            ["" if u % 4 == 0 else f"query {v % 6}" for u, v in zip(user, video, strict=True)],
            object,
        ),
    )
    return impressions, Outcomes(drawn.astype(np.float64), rng.random(num))
