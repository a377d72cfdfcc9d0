"""Whether bytes are anywhere in a file, in use or not.

    # Reads the bytes from its input; prints 0 or 1.
    python -m reelseek.recommendation.events.residue FILE

This runs in a process of its own, as SQLite loses its locks when a process that it runs in closes
the file.
"""

import mmap
import subprocess
import sys
from pathlib import Path


def file_contains(path: Path, searched: bytes) -> bool:
    command = [sys.executable, "-m", __name__, str(path)]
    # Not as an argument, which others on this machine could see.
    done = subprocess.run(command, input=searched, capture_output=True, check=True)
    return done.stdout.strip() == b"1"


def main() -> None:
    searched = sys.stdin.buffer.read()
    with (
        open(sys.argv[1], "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        print(int(data.find(searched) >= 0))


if __name__ == "__main__":
    main()
