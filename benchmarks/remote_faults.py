"""Videos in a bucket whose answers fail, are cut or stall: indexed, published, and searched there.

    python benchmarks/remote_faults.py [videos=300] [fraction=0.05] [seed=0] [disk_mb=1]

Makes small videos, puts them into a bucket of moto's server on loopback, and runs the commands
behind a proxy that answers a fraction of the requests badly: a third with status 500, a third cut
in the middle, a third after a stall that is longer than the timeout. Counts what became of each
video, and runs the same without faults. The last line on stdout is a JSON object. Needs
`reelseek[remote]` and moto[server].
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.faulty_proxy import FaultyProxy  # noqa: E402
from benchmarks.options import parse_options  # noqa: E402

_TIMEOUT_SECONDS = 1.0
_BUCKET = "s3://videos"


def write_video(path: Path, number: int) -> None:
    """Writes a second of two colours that no other number has."""
    colours = np.random.default_rng(number).integers(0, 256, (2, 3))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for i in range(10):
            picture = np.full((48, 64, 3), colours[i // 5], np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def run(command: str, *arguments: str) -> dict[str, Any]:
    """Runs a command of reelseek; returns the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "reelseek", command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def index_bucket(proxy: FaultyProxy, index: Path, *, disk_mb: float) -> dict[str, Any]:
    """Indexes the bucket through a proxy, and says what became of each video."""
    os.environ["AWS_ENDPOINT_URL"] = proxy.url
    started = time.monotonic()
    summary = run(
        "index",
        f"{_BUCKET}/films",
        f"index={index}",
        f"remote.timeout_seconds={_TIMEOUT_SECONDS}",
        f"remote.disk_gb={disk_mb / 1024}",
        "progress=json",
    )
    lines = [json.loads(line) for line in (index / "report.jsonl").read_text().splitlines()]
    return {
        "outcomes": Counter(line["outcome"] for line in lines),
        "keys": len({line["key"] for line in lines}),
        "searchable": summary["searchable"],
        "requests": sum(proxy.requests.values()),
        "faults": dict(proxy.faults),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    options = parse_options(__doc__, videos="300", fraction="0.05", seed="0", disk_mb="1")
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    os.environ |= {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up"}
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    backend = server.get_host_and_port()
    faulty: dict[str, Any] = {
        "fraction": float(options["fraction"]),
        "slow_seconds": 3 * _TIMEOUT_SECONDS,
        "seed": int(options["seed"]),
    }
    disk_mb = float(options["disk_mb"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, backend, num_videos=int(options["videos"]))
        with FaultyProxy(backend) as proxy:
            plain = index_bucket(proxy, folder / "plain", disk_mb=disk_mb)
            print(f"without faults: {plain}", file=sys.stderr)
        with FaultyProxy(backend, **faulty) as proxy:
            index = folder / "index"
            found = index_bucket(proxy, index, disk_mb=disk_mb)
            print(f"with faults: {found}", file=sys.stderr)
            again = index_bucket(proxy, index, disk_mb=disk_mb)
            limits = f"timeout_seconds={_TIMEOUT_SECONDS}"
            published = run("publish", f"{_BUCKET}/index", f"index={index}", limits)
            question = ["a red wall", "k=5", "json=true"]
            here = run("search", *question, f"index={index}")
            cache = f"index_cache={folder / 'cache'}"
            there = run("search", *question, f"index={_BUCKET}/index", cache)
        print(
            json.dumps(
                {
                    "without_faults": plain,
                    "with_faults": found,
                    "again": again,
                    "published": published,
                    "same_answers": here == there,
                }
            )
        )
    server.stop()


def fill(folder: Path, backend: tuple[str, int], *, num_videos: int) -> None:
    """Makes the videos, and puts them into the bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url="http://{}:{}".format(*backend))
    client.create_bucket(Bucket=_BUCKET.removeprefix("s3://"))
    path = folder / "film.mp4"
    for number in range(num_videos):
        write_video(path, number)
        key = f"films/{number % 7}/{number:03}.mp4"
        client.put_object(Bucket=_BUCKET.removeprefix("s3://"), Key=key, Body=path.read_bytes())


if __name__ == "__main__":
    main()
