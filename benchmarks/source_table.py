"""Captioned videos with titles -> rows of what pictures, words, and both together retrieve, by
`python train.py eval_only=true`."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reelseek.indexing import VideoItem

ROOT = Path(__file__).resolve().parent.parent
HEADER = "| titles | source | R@1 | R@5 | R@10 | MdR |\n|---|---|---|---|---|---|"


def print_rows(
    path: Path, items: Sequence[VideoItem], *, queries: Sequence[str], titles: Sequence[str]
) -> None:
    """Writes a list of the videos, each with what is asked for it and its title, evaluates it, and
    prints a row for each source, under `HEADER`."""
    with path.open("w", encoding="utf-8") as file:
        for item, caption, title in zip(items, queries, titles, strict=True):
            line = {"video": str(item.path), "captions": [caption], "title": title}
            file.write(json.dumps(line) + "\n")
    done = subprocess.run(
        [sys.executable, "train.py", "eval_only=true", f"data.val={path}", "model=mini"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for source, row in json.loads(done.stdout.splitlines()[-1])["sources"].items():
        figures = " | ".join(str(row[metric]) for metric in ("R@1", "R@5", "R@10", "MdR"))
        print(f"| {path.stem} | {source} | {figures} |", flush=True)
