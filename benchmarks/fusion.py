"""Pictures, words, and both, where half of the texts are right and half are those of other videos.

    python benchmarks/fusion.py data=FILE.jsonl folder=DIR [seed=0]

Writes `FOLDER/whole.jsonl` and `FOLDER/half.jsonl`: the captioned videos of the list, each with a
`title`. A random half has its own caption as title; in the other half, the captions go round: each
video has that of the next, so that whoever believes texts is led astray. In `half.jsonl` titles
keep half of their words, drawn at random. Then `python train.py eval_only=true` measures both:
captions are asked, and `sources` says what pictures, words, and both together find.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from indexing import collect_videos  # noqa: E402


def titles(captions: list[str], draws: random.Random) -> list[str]:
    """Of each video: its own caption, or that of the next in the other half."""
    order = list(range(len(captions)))
    draws.shuffle(order)
    own, others = order[: len(order) // 2], order[len(order) // 2 :]
    given = {place: captions[place] for place in own}
    following = others[1:] + others[:1]
    given |= {place: captions[source] for place, source in zip(others, following, strict=True)}
    return [given[place] for place in range(len(captions))]


def half_of(title: str, draws: random.Random) -> str:
    words = title.split()
    kept = sorted(draws.sample(range(len(words)), max(1, len(words) // 2)))
    return " ".join(words[place] for place in kept)


def main() -> None:
    options = parse_options(__doc__, data=None, folder=None, seed="0")
    folder, draws = Path(options["folder"]), random.Random(int(options["seed"]))
    folder.mkdir(parents=True, exist_ok=True)
    items = [item for item in collect_videos(options["data"]) if item.captions]
    whole = titles([item.captions[0] for item in items], draws)
    print("| titles | source | R@1 | R@5 | R@10 | MdR |\n|---|---|---|---|---|---|")
    for name, given in (("whole", whole), ("half", [half_of(title, draws) for title in whole])):
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for item, title in zip(items, given, strict=True):
                line = {"video": str(item.path), "captions": item.captions[:1], "title": title}
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
            print(f"| {name} | {source} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
