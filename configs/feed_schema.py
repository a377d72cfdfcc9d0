"""The types of the options of related videos and the feed; see `configs.schema` for how they are
kept."""

from dataclasses import dataclass

from reelseek.configs.options import Options, Range, option, path_option
from reelseek.text.urls import REDIS_SCHEMES


@dataclass
class BuildRecommenderConfig(Options, command="build_recommender"):
    index: str = path_option("the folder of the index whose videos are recommended")
    events: str = path_option(
        "the folder or redis:// server of the log of events", takes_urls=REDIS_SCHEMES
    )
    models: str | None = path_option(
        "folder of the models; default: `models` in the folder of events", None
    )
    factors: int = option("of each video, learned by iALS; 0 for none", Range(0, 512))
    sequential: bool = option(
        "train the sequential model: what is watched next, minutes for 10^5 events"
    )
    window: int = option("steps that a pair of videos may be apart in a history", Range(1, 100))
    half_life_days: float = option("after which a pair of videos counts half", Range(above=0))
    popular_half_life_days: float = option(
        "likewise of what is popular lately", Range(minimum=1, maximum=365)
    )
    neighbors: int = option("that are kept of each video", Range(1, 1000))
    max_items_per_user: int = option("that are remembered of a user", Range(1))
    max_items_per_day: int = option("of a user that count for others: more is a robot's", Range(1))
    seed: int = option("of what is drawn at random", Range(0))


@dataclass
class RecommendConfig(Options, section="recommend"):
    """Related videos and the feed of a service."""

    models: str | None = path_option(
        "folder of the models of `python -m recommendation build`; default: `models` in the folder "
        "of events",
        None,
    )
    threads: int = option("that a worker recommends in", Range(1, 64))
    max_waiting: int = option("requests that may wait for these; others get a 503", Range(0))
    seen_again_days: float = option(
        "after which a seen video may come again, further down; 0 for never", Range(0)
    )
    explore_probability: float = option(
        "with which a position that explores shows a video drawn at random", Range(0, 1)
    )
    explore_every: int = option("the positions that explore: each so-many-th", Range(2))
    weights: dict[str, float] = option(
        "of what the feed goes by: co_watch, factors, sequence, content, popularity, freshness, "
        "personal, shown",
        Range(0),
        default={
            "co_watch": 1.0,
            "factors": 0.5,
            "sequence": 1.0,
            "content": 0.4,
            "popularity": 0.2,
            "freshness": 0.15,
            "personal": 0.5,
            "shown": 0.3,
        },
    )
    relevance_share: float = option(
        "of the score in choosing the next video; the rest is how unlike it is to those before",
        Range(0, 1),
    )
    confidence_watchers: float = option(
        "of a video, at which people and content count the same for related videos", Range(above=0)
    )
