"""Cuts a thumbnail, a probe and a clip of every video in a folder, as the service does.

Prints a line of JSON for each file that shows a thumbnail and can neither be played nor cut, and at
the end how many there are and how long they took.

Usage: python benchmarks/serving_odd.py FOLDER
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av

from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.errors import MediaError
from reelseek.serving.media.playing import is_plain_h264
from reelseek.serving.media.pool import CutPool, PoolLimits
from reelseek.serving.media.requests import BrowserClip, MediaFile, Probe, Thumbnail
from reelseek.vision import open_video
from reelseek.vision.decoding.file_content import read_content
from reelseek.vision.decoding.process import start_decode_server

THUMBNAIL_SECONDS, THUMBNAIL_WIDTH = 0.5, 320
CLIP_SECONDS = 2.0


@dataclass
class Shown:
    """What a browser gets of a file.

    Attributes:
        shows: There is a thumbnail.
        plays: The file plays as it is.
        has_clip: There is a clip, whose frames decode.
        reason: Why there is no thumbnail or clip.
        seconds: That each took.
    """

    shows: bool = False
    plays: bool = False
    has_clip: bool = False
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


def main(folder: Path) -> int:
    with tempfile.TemporaryDirectory() as cache:
        results = cut_all(folder, cache=Path(cache))
    shown = {name: each for name, each in results.items() if each.shows}
    lost = {name: each for name, each in shown.items() if not (each.plays or each.has_clip)}
    for name, each in lost.items():
        print(json.dumps({"file": name, **asdict(each)}))
    summary: dict[str, Any] = {
        "files": len(results),
        "with_thumbnail": len(shown),
        "play_as_they_are": sum(each.plays for each in shown.values()),
        "with_clip": sum(each.has_clip for each in shown.values()),
        "neither": len(lost),
    }
    for name in ("thumbnail", "probe", "clip"):
        times = [each.seconds[name] for each in results.values() if name in each.seconds]
        summary[f"{name}_ms"] = {
            "median": round(1000 * statistics.median(times), 1),
            "max": round(1000 * max(times), 1),
        }
    print(json.dumps(summary))
    return 1 if lost else 0


def cut_all(folder: Path, *, cache: Path) -> dict[str, Shown]:
    """Cuts of every file below a folder; by its path below the folder."""
    start_decode_server()
    pool = CutPool(PoolLimits(num_workers=1))
    cutter = MediaCutter(MediaCache(cache, max_bytes=1 << 30), pool, pool)
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): _cut(cutter, path) for path in files}
    finally:
        cutter.close()


def _cut(cutter: MediaCutter, path: Path) -> Shown:
    content = read_content(path)
    file = MediaFile(str(path), content.size_bytes, content.modified_ns, content.sha256)
    found = Shown()

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        made = work()
        found.seconds[name] = time.perf_counter() - started
        return made

    thumbnail = Thumbnail(file, THUMBNAIL_SECONDS, THUMBNAIL_WIDTH)
    try:
        timed("thumbnail", lambda: cutter.thumbnail(thumbnail))
        found.shows = True
        found.plays = timed("probe", lambda: cutter.probe(Probe(file)))["plays"]
        clip = timed("clip", lambda: cutter.clip(BrowserClip(file, 0.0, CLIP_SECONDS)))
        found.has_clip = _is_playable(clip)
    except MediaError as error:
        found.reason = str(error)
    return found


def _is_playable(path: Path) -> bool:
    """Whether a clip is H.264 that decodes, with its index first."""
    with av.open(str(path)) as container:
        is_plain = is_plain_h264(container.streams.video[0])
    content = path.read_bytes()
    shows = next(open_video(path).frames([0]), None) is not None
    return is_plain and shows and content.index(b"moov") < content.index(b"mdat")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
