"""Kills a learner at random moments, and compares its model with that of one that was not killed.

    python benchmarks/learner_kills.py folder=DIR [kills=200] [events=40000] [seed=0]

Prints a line of JSON: the kills, those during which commits went on, and whether both models are
equal to the last bit. The exit code is 1 where they are not.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from tests.recommendation.learning.learner import learn  # noqa: E402

_LONGEST_SECONDS = 1.5  # that a learner lives once it has begun


def main() -> None:
    options = parse_options(__doc__, folder=None, kills="200", events="40000", seed="0")
    folder, num_events = Path(options["folder"]), int(options["events"])
    draws = random.Random(int(options["seed"]))
    killed = folder / "killed"
    command = [sys.executable, "-m", "tests.recommendation.learning.learner", str(killed)]
    num_killed = num_advanced = 0
    while num_killed < int(options["kills"]):
        before = _newest(killed)
        process = subprocess.Popen(
            [*command, str(num_events)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draws.uniform(0, _LONGEST_SECONDS))
        process.kill()
        if process.wait() == 0:
            break  # it had come to the end: give more events for more kills
        num_killed += 1
        num_advanced += _newest(killed) != before
    is_equal = learn(killed, num_events) == learn(folder / "unkilled", num_events)
    print(json.dumps({"kills": num_killed, "advanced": num_advanced, "equal": is_equal}))
    sys.exit(not is_equal)


def _newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("delta-*.bin")), default="")


if __name__ == "__main__":
    main()
