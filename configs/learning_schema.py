"""The types of the configurations of `recommendation/learning/`; see `configs.schema` for how they
are kept."""

from dataclasses import dataclass
from math import inf

from reelseek.configs.options import OneOf, Options, Range, option, path_option
from reelseek.text.urls import REDIS_SCHEMES


@dataclass
class ReplayConfig(Options, command="replay"):
    events: list[str] = path_option("Parquet files of impressions and their outcomes")
    history: str | None = path_option(
        "a Parquet file of what users watched before: user_id, last_time_ms, watch_seq, "
        "long_watch_seq",
        None,
    )
    users: str | None = path_option("a CSV of users' features, with the column user_id", None)
    videos: str | None = path_option(
        "a CSV of videos' features, with the columns video_id, author_id, tag", None
    )
    label: str = option("what is predicted", OneOf(("long_view", "click", "like")))
    measure_from: int = option("Unix time in ms; events from then on are measured", Range(0))
    delay_seconds: float = option(
        "after an event, when its outcome becomes known to the model", Range(0, below=inf)
    )
    delays: bool = option("measure too what a delay of an hour, and of a day, costs")
    batch_seconds: float = option(
        "of a log that are learned in one step; users' own events never wait for it",
        Range(0, below=inf),
    )
    capacity: int = option("rows of the table of ids, some 500 bytes each", Range(100))
    min_sightings: int = option("of a pair of ids, before it is counted", Range(1))
    expire_days: float = option(
        "without an event, after which an id is forgotten", Range(above=0, below=inf)
    )
    predictions: str | None = path_option(
        "a .npz file for the predictions of measured events", None
    )


@dataclass
class LearnConfig(Options, command="learn"):
    events: str = path_option(
        "the folder or redis:// server of the log, which `serve events=` writes",
        takes_urls=REDIS_SCHEMES,
    )
    index: str | None = path_option(
        "the folder of the index, for authors, tags and durations of videos", None
    )
    output: str | None = path_option(
        "the folder of the model, made if missing; one learner writes it; default: `learned` in "
        "the folder of events",
        None,
    )
    publish: str | None = path_option(
        "a redis:// server for the model too, from which servers on other machines follow it",
        None,
        takes_urls=REDIS_SCHEMES,
    )
    follow: bool = option("go on with new events; false: end with the log")
    wait_seconds: float = option(
        "after an impression, until its example is learned; later outcomes correct it",
        Range(0, below=inf),
    )
    correct_seconds: float = option(
        "after an impression, until which outcomes correct what was learned", Range(0, below=inf)
    )
    long_view_seconds: float = option(
        "watched, from which a view is long", Range(above=0, below=inf)
    )
    max_user_examples: int = option(
        "of a user in an hour of the log; what is more is not learned, as of a robot", Range(1)
    )
    commit_events: int = option("after which the model is stored, at most", Range(1))
    capacity: int = option("rows of the table of ids, some 500 bytes each", Range(100))
    min_sightings: int = option("of a pair of ids, before it is counted", Range(1))
    expire_days: float = option(
        "without an event, after which an id is forgotten", Range(above=0, below=inf)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.correct_seconds < self.wait_seconds:
            raise ValueError(
                f"correct_seconds={self.correct_seconds}: must be at least wait_seconds "
                f"({self.wait_seconds})"
            )


@dataclass
class PersonalConfig(Options, section="personal"):
    """What a service does with what was learned of users."""

    weight: float = option(
        "of what was learned of a user in the order of hits and of the feed; 0 for none. A hit "
        "passes others that are more relevant by less than twice this (docs/learning.md)",
        Range(0, 1),
    )
    model: str | None = path_option(
        "folder of the learned model, or the redis:// server that a learner publishes it in; "
        "default: `learned` in the folder of events, or their server",
        None,
        takes_urls=REDIS_SCHEMES,
    )
    learner_options: list[str] = option(
        "of the learner of `learn`, such as [wait_seconds=60,capacity=100000]", default=[]
    )
