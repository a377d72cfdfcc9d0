"""`python -m recommendation.replay`: what a model that learns would have predicted."""

from pathlib import Path
from typing import Any

import numpy as np

from reelseek.configs import command_line
from reelseek.configs.learning_schema import ReplayConfig
from reelseek.indexing.store.atomic import check_can_write_file, publish_file
from reelseek.recommendation.learning.figures import summary
from reelseek.recommendation.learning.impressions import (
    HEADS,
    Impressions,
    Outcomes,
    Profiles,
)
from reelseek.recommendation.learning.model import ModelSettings, OnlineModel
from reelseek.recommendation.learning.namespaces import CORE_NAMESPACES
from reelseek.recommendation.learning.prior import Prior, fit_prior
from reelseek.recommendation.learning.reading import (
    check_table,
    read_history,
    read_impressions,
    read_profiles,
    read_video_groups,
)
from reelseek.recommendation.learning.replaying import Replayed, ReplaySettings, replay
from reelseek.recommendation.recommender import print_progress

USAGE = """usage: python -m recommendation.replay events=[A.parquet,B.parquet] measure_from=TIME_MS
           [history=C.parquet] [users=D.csv] [videos=E.csv] [label=long_view] [name=value ...]

Replays a log in order of time: each event is predicted, then learned. The last line on stdout is a
JSON object: AUC, session_GAUC (the order inside sessions, by the state at their start), their
intervals, and under `frozen` the same of the model as it was at measure_from."""

_DELAYS_SECONDS = {"1 hour": 3600.0, "1 day": 86400.0}
_COLD_EVENTS = {"user": 3, "video": 20}  # fewer are known of what is cold


def main(config: ReplayConfig) -> None:
    _check_before_loading(config)
    paths = [Path(path) for path in config.events]
    impressions, outcomes, num_repeats = read_impressions("events", paths)
    is_measured = impressions.time_ms >= config.measure_from
    if not is_measured.any():
        raise ValueError(
            f"measure_from={config.measure_from}: the last event is at "
            f"{impressions.time_ms.max()}; name an earlier time"
        )
    prior, users, videos = _read_tables(config)
    head = HEADS.index(config.label)
    labels = outcomes.labels[is_measured, head]

    def run(delay_seconds: float, label: str) -> tuple[Replayed, OnlineModel]:
        model = OnlineModel(
            _model_settings(config),
            prior=prior,
            users=users,
            videos=videos,
            namespaces=CORE_NAMESPACES,
        )
        return _replay(
            config, model, impressions, outcomes, delay_seconds=delay_seconds, label=label
        ), model

    replayed, model = run(config.delay_seconds, "replay")
    figures = summary(
        replayed, labels, head=head, slices=_slices(impressions, is_measured, prior=prior)
    )
    figures["events_per_second"] = round(len(impressions) / max(replayed.seconds, 1e-9))
    figures["events_dropped"] = num_repeats
    figures["table"] = _table_sizes(model)
    if config.delays:
        figures["delays"] = {
            name: _short(run(seconds, f"delay of {name}")[0], labels, head=head)
            for name, seconds in _DELAYS_SECONDS.items()
        }
    if config.predictions is not None:
        _write_predictions(Path(config.predictions), replayed, impressions)
    command_line.print_json(figures)


def _check_before_loading(config: ReplayConfig) -> None:
    if not config.events:
        raise ValueError("events=[]: name at least one Parquet file")
    for path in config.events:
        check_table("events", Path(path))
    for name in ("history", "users", "videos"):
        value = getattr(config, name)
        if value is not None:
            check_table(name, Path(value))
    if config.predictions is not None:
        check_can_write_file("predictions", Path(config.predictions))


def _read_tables(config: ReplayConfig) -> tuple[Prior, Profiles, Profiles]:
    """Reads what is known before the first event, but nothing from `measure_from` on."""
    prior, users, videos = Prior(), Profiles.empty(), Profiles.empty()
    authors: dict[object, object] = {}
    tags: dict[object, object] = {}
    if config.videos is not None:
        authors, tags = read_video_groups("videos", Path(config.videos))
        videos = read_profiles("videos", Path(config.videos), key="video_id")
    if config.users is not None:
        users = read_profiles("users", Path(config.users), key="user_id")
    if config.history is not None:
        history = read_history("history", Path(config.history), before_ms=config.measure_from)
        prior = fit_prior(history, authors, tags=tags)
    return prior, users, videos


def _model_settings(config: ReplayConfig) -> ModelSettings:
    return ModelSettings(
        capacity=config.capacity,
        min_sightings=config.min_sightings,
        expire_days=config.expire_days,
    )


def _replay(
    config: ReplayConfig,
    model: OnlineModel,
    impressions: Impressions,
    outcomes: Outcomes,
    *,
    delay_seconds: float,
    label: str,
) -> Replayed:
    show = print_progress(label)
    return replay(
        model,
        impressions,
        outcomes,
        settings=ReplaySettings(
            measure_from_ms=config.measure_from,
            delay_ms=round(delay_seconds * 1000),
            batch_ms=round(config.batch_seconds * 1000),
        ),
        progress=lambda done, num: show(done / num, f"of {num} events"),
    )


def _short(replayed: Replayed, labels: np.ndarray, *, head: int) -> dict[str, Any]:
    figures = summary(replayed, labels, head=head)
    return {name: figures[name] for name in ("AUC", "session_GAUC", "intervals")}


def _slices(
    impressions: Impressions, is_measured: np.ndarray, *, prior: Prior
) -> dict[str, np.ndarray]:
    """Events of users and videos of which a history says nothing, and the log little before."""
    slices = {}
    for name, known in (("user", prior.user), ("video", prior.video)):
        ids = getattr(impressions, name)
        _, codes = np.unique(ids, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        counts = np.bincount(codes)
        earlier = np.empty(len(ids), np.int64)
        earlier[order] = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
        is_unknown = np.array([each not in known for each in ids.tolist()])
        is_cold = is_unknown & (earlier < _COLD_EVENTS[name])
        slices[f"cold_{name}s"] = is_cold[is_measured]
    return slices


def _table_sizes(model: OnlineModel) -> dict[str, int]:
    table = model.table
    return {
        "rows": len(table),
        "candidates": table.num_candidates,
        "evicted": table.num_evicted,
        "expired": table.num_expired,
    }


def _write_predictions(path: Path, replayed: Replayed, impressions: Impressions) -> None:
    measured = impressions.take(replayed.index)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(
                file,
                user=measured.user,
                video=measured.video,
                time_ms=measured.time_ms,
                online=replayed.online,
                at_session_start=replayed.at_session_start,
                frozen=replayed.frozen,
            )

    publish_file(path, write)


if __name__ == "__main__":
    command_line.run(main, ReplayConfig, usage=USAGE)
