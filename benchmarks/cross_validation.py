"""Two-fold cross-validation of a recipe inside one list: each half is searched by a model that was
trained on the other half, and by the model it started from.

    python benchmarks/cross_validation.py data=FILE.jsonl [also=FILE.jsonl,FILE.jsonl] [splits=2]
                                          [experiment=shared_clips] [model=mini] [folder=DIR]
                                          [num_train=N]

`also` is trained on in every fold. No weights are chosen by what is measured: the last ones count.
Each split is another division into halves and another seed. `num_train` trains on so many lines of
a half alone. Runs are `train.py`'s own.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402

METRICS = ("R@1", "R@5", "R@10", "MdR")


def train_py(*arguments: str) -> dict:
    """Runs `train.py`; returns the metrics of its last line."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def halves(path: Path, *, split: int, folder: Path) -> list[Path]:
    """Writes the list's lines, in an order of this split, as two lists with absolute paths."""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    for line in lines:
        line["video"] = str((path.parent / line["video"]).resolve())
    random.Random(split).shuffle(lines)
    paths = []
    for number, part in enumerate((lines[: len(lines) // 2], lines[len(lines) // 2 :])):
        paths.append(folder / f"split{split}-half{number}.jsonl")
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in part))
    return paths


def first_lines(path: Path, count: int) -> Path:
    """Writes the first lines of a list as one of its own."""
    shortened = path.with_name(f"{path.stem}-{count}.jsonl")
    shortened.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))
    return shortened


def main() -> None:
    options = parse_options(
        __doc__,
        data=None,
        also="",
        splits="2",
        experiment="shared_clips",
        model="mini",
        folder="",
        num_train="",
    )
    model = f"model={options['model']}"
    also = [name for name in options["also"].split(",") if name]
    rows: dict[str, list[dict]] = {"zero-shot": [], "trained": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options["folder"] or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for split in range(int(options["splits"])):
            paths = halves(Path(options["data"]), split=split, folder=folder)
            for number, (trained_on, searched) in enumerate([paths, paths[::-1]]):
                evaluation = ("eval_only=true", f"data.val={searched}", "num_bootstrap=0")
                rows["zero-shot"].append(train_py(model, *evaluation))
                if options["num_train"]:
                    trained_on = first_lines(trained_on, int(options["num_train"]))
                output = folder / f"split{split}-fold{number}"
                lists = ",".join(f"'{name}'" for name in (*also, str(trained_on)))
                train_py(
                    f"experiment={options['experiment']}",
                    model,
                    f"data.train=[{lists}]",
                    f"output={output}",
                    f"loop.seed={split}",
                )
                rows["trained"].append(train_py(f"model={output}", *evaluation))
                for name, results in rows.items():
                    print(split, number, name, json.dumps(results[-1]["t2v"]), flush=True)
    for name, results in rows.items():
        for side in ("t2v", "v2t"):
            means = {
                metric: round(statistics.mean(result[side][metric] for result in results), 2)
                for metric in METRICS
            }
            print(f"{name:>10} {side}: mean of {len(results)} folds: {json.dumps(means)}")


if __name__ == "__main__":
    main()
