"""Pictures, words, and both, where half of the texts are right and half are those of other videos.

    python benchmarks/fusion.py data=FILE.jsonl folder=DIR [seed=0]

Writes `FOLDER/whole.jsonl` and `FOLDER/half.jsonl`: the captioned videos of the list, each with a
`title`. A random half has its own caption as title; in the other half, the captions go round: each
video has that of the next, so that whoever believes texts is led astray. In `half.jsonl` titles
keep half of their words, drawn at random. Then `python train.py eval_only=true` measures both:
captions are asked, and `sources` says what pictures, words, and both together find.
"""

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402
from benchmarks.source_table import HEADER, print_rows  # noqa: E402
from reelseek.indexing import collect_videos  # noqa: E402


def titles(captions: list[str], draws: random.Random) -> list[str]:
    """Of each video: its own caption, or that of the next in the other half."""
    order = list(range(len(captions)))
    draws.shuffle(order)
    own, others = order[: len(order) // 2], order[len(order) // 2 :]
    given = {index: captions[index] for index in own}
    following = others[1:] + others[:1]
    given |= {index: captions[source] for index, source in zip(others, following, strict=True)}
    return [given[index] for index in range(len(captions))]


def half_of(title: str, draws: random.Random) -> str:
    words = title.split()
    kept = sorted(draws.sample(range(len(words)), max(1, len(words) // 2)))
    return " ".join(words[index] for index in kept)


def main() -> None:
    options = parse_options(__doc__, data=None, folder=None, seed="0")
    folder, draws = Path(options["folder"]), random.Random(int(options["seed"]))
    folder.mkdir(parents=True, exist_ok=True)
    items = [item for item in collect_videos(options["data"]) if item.captions]
    captions = [item.captions[0] for item in items]
    whole = titles(captions, draws)
    print(HEADER)
    for name, given in (("whole", whole), ("half", [half_of(title, draws) for title in whole])):
        print_rows(folder / f"{name}.jsonl", items, queries=captions, titles=given)


if __name__ == "__main__":
    main()
