"""Cuts a thumbnail, a probe and a clip of every video in a folder of odd files.

Prints a line of JSON for each file from which no frame decodes, or that can neither be played nor
cut, and at the end how many there are and what they took.

Usage: python benchmarks/serving_odd.py FOLDER
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av

from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.errors import MediaError
from reelseek.serving.media.playing import is_plain_h264
from reelseek.serving.media.pool import CutPool, PoolLimits
from reelseek.serving.media.requests import BrowserClip, MediaFile, Probe, Thumbnail
from reelseek.vision import open_video, start_decode_server

SECONDS = 0.5  # of the thumbnail
CLIP_SECONDS = 2.0


def main(folder: Path) -> int:
    start_decode_server()
    times: dict[str, list[float]] = {"thumbnail": [], "probe": [], "clip": []}
    num_shown = num_plays = 0
    unplayable = []
    with tempfile.TemporaryDirectory() as cache:
        cutter = MediaCutter(
            MediaCache(Path(cache), max_bytes=1 << 30),
            CutPool(PoolLimits(num_workers=1)),
            CutPool(PoolLimits(num_workers=1)),
        )
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            found = look_at(cutter, path, times)
            if not found["shows"]:
                continue
            num_shown += 1
            num_plays += found["plays"]
            if not found["plays"] and not found["clip"]:
                unplayable.append(str(path.relative_to(folder)))
                print(json.dumps({"file": unplayable[-1], **found}), flush=True)
        cutter.close()
    summary = {
        "with_thumbnail": num_shown,
        "play_as_they_are": num_plays,
        "neither": len(unplayable),
        **{
            f"{name}_seconds": {
                "median": round(statistics.median(seconds), 3),
                "max": round(max(seconds), 3),
            }
            for name, seconds in times.items()
        },
    }
    print(json.dumps(summary))
    return 1 if unplayable else 0


def look_at(cutter: MediaCutter, path: Path, times: dict[str, list[float]]) -> dict[str, Any]:
    """What a browser gets of a file. A clip is cut of every file, and decoded again."""
    status = os.stat(path)
    name = str(path).replace("/", "-")[-100:]
    file = MediaFile(str(path), status.st_size, status.st_mtime_ns, name)
    found: dict[str, Any] = {"shows": False, "plays": False, "clip": False, "reason": ""}
    try:
        started = time.perf_counter()
        cutter.thumbnail(Thumbnail(file, SECONDS, 320))
        times["thumbnail"].append(time.perf_counter() - started)
        found["shows"] = True
        started = time.perf_counter()
        probed = cutter.probe(Probe(file))
        times["probe"].append(time.perf_counter() - started)
        found["plays"] = probed["plays"]
        started = time.perf_counter()
        clip = cutter.clip(BrowserClip(file, 0.0, CLIP_SECONDS))
        times["clip"].append(time.perf_counter() - started)
        assert isinstance(clip, Path)
        found["clip"] = plays_in_browsers(clip)
    except MediaError as error:
        found["reason"] = str(error)
    return found


def plays_in_browsers(path: Path) -> bool:
    """Whether a clip is H.264 that decodes, with its index first."""
    with av.open(str(path)) as container:
        is_plain = is_plain_h264(container.streams.video[0])
    content = path.read_bytes()
    shows = next(open_video(path).frames([0]), None) is not None
    return is_plain and shows and content.index(b"moov") < content.index(b"mdat")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
