"""The media process: cuts thumbnails and clips for all workers, in processes that can be killed.

It starts processes of its own, and so must not be a daemon of `multiprocessing`.
"""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from reelseek.configs.schema import ServeConfig
from reelseek.serving.channel import Server
from reelseek.serving.media.cache import MediaCache, cache_folder
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.pool import CutPool, PoolLimits
from reelseek.serving.media.requests import BrowserClip, Probe, Thumbnail
from reelseek.vision.cores import num_cores
from reelseek.vision.decoding.process import start_decode_server

_MAX_CLIPS_WAITING = 16


def handlers(cutter: MediaCutter) -> dict[str, Callable[[Any], Any]]:
    """What the process answers: `thumbnail`, `clip` and `probe`, each of the fields of its request.

    A clip is `{"path": ...}`, in the cache, or `{"content": ...}`.
    """

    def thumbnail(value: Any) -> bytes:
        return cutter.thumbnail(msgspec.convert(value, Thumbnail))

    def clip(value: Any) -> dict[str, Any]:
        made = cutter.clip(msgspec.convert(value, BrowserClip))
        return {"path": str(made)} if isinstance(made, Path) else {"content": made}

    def probe(value: Any) -> dict[str, Any]:
        return cutter.probe(msgspec.convert(value, Probe))

    return {"thumbnail": thumbnail, "clip": clip, "probe": probe}


def main(config: ServeConfig, socket: str) -> None:
    """Runs the process until it is killed."""
    from reelseek.serving.telemetry import log_as_json

    log_as_json()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor says when to stop
    start_decode_server()
    num_workers = max(2, num_cores())
    cutter = MediaCutter(
        MediaCache(cache_folder(config), max_bytes=int(config.media_cache_gb * 2**30)),
        CutPool(PoolLimits(num_workers=num_workers)),
        CutPool(
            PoolLimits(
                num_workers=num_workers // 2, max_waiting=_MAX_CLIPS_WAITING, max_wait_seconds=30.0
            )
        ),
    )
    Server(Path(socket), handlers(cutter)).serve_forever()
