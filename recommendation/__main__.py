"""`python -m recommendation build`: learns from the log of events what servers recommend by."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reelseek.configs import command_line
from reelseek.configs.feed_schema import BuildRecommenderConfig
from reelseek.indexing.store.atomic import check_can_write_folder
from reelseek.indexing.store.manifest import Manifest

if TYPE_CHECKING:
    from reelseek.recommendation.models.building import BuildSettings

USAGE = """usage: python -m recommendation build index=DIR events=DIR [models=DIR] [name=value ...]

Learns what is watched together, what is popular, factors of videos, and what is watched next, from
the log of events. Servers pick up the new model by themselves. The last line on stdout is a JSON
object."""


def main(config: BuildRecommenderConfig) -> None:
    index, events = Path(config.index), config.events
    _check(index, events)
    models = _models_folder(config)
    check_can_write_folder("models", models)
    manifest = Manifest.read(index)

    from filelock import FileLock, Timeout

    from reelseek.indexing.reader import IndexReader
    from reelseek.indexing.store.atomic import make_folder
    from reelseek.recommendation.catalogue import ItemCatalogue
    from reelseek.recommendation.content import IndexContent
    from reelseek.recommendation.events.log import EventsUnavailable
    from reelseek.recommendation.events.opening import open_log
    from reelseek.recommendation.models.building import build
    from reelseek.recommendation.models.folder import write
    from reelseek.recommendation.recommender import print_progress

    started = time.perf_counter()
    reader = IndexReader(index)
    log = open_log(events)
    make_folder(models)
    try:
        catalogue = ItemCatalogue.of(reader)
        with FileLock(models / "build.lock", timeout=0):
            learned = build(
                log,
                catalogue.row_by_id,
                IndexContent(catalogue),
                _settings(config),
                fingerprint=manifest.settings.fingerprint,
                progress=print_progress("build"),
            )
            version = write(models, learned)
    except Timeout as error:
        raise ValueError(f"models={models}: another program is building there; wait") from error
    except EventsUnavailable as error:
        raise ValueError(f"events={events}: {error}") from error
    finally:
        log.close()
        reader.close()
    info = learned.info
    command_line.print_json(
        {
            **{"version": version, "num_users": info.num_users, "num_items": info.num_items},
            **{"num_events": info.num_events, "position": info.position},
            "has_factors": learned.factors is not None,
            "has_sequential": learned.sequential is not None,
            "seconds": round(time.perf_counter() - started, 2),
        }
    )


def _models_folder(config: BuildRecommenderConfig) -> Path:
    from reelseek.recommendation.models.folder import default_folder
    from reelseek.recommendation.redis_server import is_redis

    if config.models is not None:
        return Path(config.models)
    if is_redis(config.events):
        raise ValueError("models: missing; name a folder, as the events are in a Redis server")
    return default_folder(Path(config.events))


def _check(index: Path, events: str) -> None:
    """Raises a ValueError where the index or the log is not there."""
    from reelseek.recommendation.events.opening import check_readable

    if not index.is_dir():
        raise ValueError(f"index={index}: no such folder; name the folder of an index")
    check_readable(events)


def _settings(config: BuildRecommenderConfig) -> "BuildSettings":
    from reelseek.recommendation.als import AlsSettings
    from reelseek.recommendation.live.history import HistoryLimits
    from reelseek.recommendation.models.building import BuildSettings
    from reelseek.recommendation.related.co_watch import CoWatchSettings

    return BuildSettings(
        limits=HistoryLimits(config.max_items_per_user, config.max_items_per_day),
        co_watch=CoWatchSettings(
            window=config.window,
            half_life_days=config.half_life_days,
            popular_half_life_days=config.popular_half_life_days,
            num_neighbors=config.neighbors,
        ),
        factors=AlsSettings(num_factors=config.factors) if config.factors else None,
        sequential={} if config.sequential else None,
        seed=config.seed,
    )


if __name__ == "__main__":
    name, *arguments = sys.argv[1:] or ["--help"]
    if name not in ("build", "-h", "--help", "--version"):
        print(f"error: {name!r} is no command: must be build; see --help", file=sys.stderr)
        sys.exit(2)
    given = arguments if name == "build" else [name]
    command_line.run(main, BuildRecommenderConfig, usage=USAGE, arguments=given)
