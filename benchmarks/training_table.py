"""What trains x how frames are pooled: one run of `train.py` each, as a table.

    python benchmarks/training_table.py train=FILE.jsonl[,FILE.jsonl] val=FILE.jsonl folder=DIR
                                        [experiment=shared_clips] [epochs=4] [seed=0]

The image tower trains its head throughout, on cached features; the rows say what trains in the text
tower, which reads 32 tokens of a caption. Zero-shot comes first. Seconds are those of the whole
command, evaluation included, frames being cached before. Runs that are in the folder already are
not made again.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.options import parse_options  # noqa: E402

TEXT_TOWER = {
    "heads": ("trainable.text=heads",),
    "LoRA, rank 8": ("trainable.text=lora", "optimizer.trunk_lr=5e-4"),
    "last 2 blocks": ("trainable.text=blocks", "trainable.num_blocks=2", "optimizer.trunk_lr=1e-4"),
    "all": ("trainable.text=all", "optimizer.trunk_lr=5e-5", "optimizer.layer_decay=0.9"),
}
POOLING = {
    "mean": ("pooling.kind=mean",),
    "transformer": ("pooling.kind=transformer", "optimizer.pooling_lr=1e-4"),
    "attention": ("pooling.kind=attention",),
}


def train_py(folder: Path, *arguments: str) -> tuple[dict, float]:
    """The metrics of a run, and its seconds."""
    kept = folder / "timed.json"
    if not kept.is_file():
        started = time.perf_counter()
        command = [sys.executable, str(ROOT / "train.py"), f"output={folder}", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - started
        kept.write_text(json.dumps([json.loads(done.stdout.splitlines()[-1]), seconds]))
    metrics, seconds = json.loads(kept.read_text())
    return metrics, seconds


def row(name: str, pooling: str, metrics: dict, seconds: float) -> str:
    recalls = [f"{metrics['t2v'][key]:.1f}" for key in ("R@1", "R@5", "R@10")]
    low, high = metrics["t2v"]["interval_95"]["R@1"]
    cells = [name, pooling, f"{recalls[0]} ({low:.0f}-{high:.0f})", *recalls[1:]]
    cells += [f"{metrics['t2v']['MdR']:g}", f"{metrics['v2t']['R@1']:.1f}", f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    options = parse_options(
        __doc__, train=None, val=None, folder=None, experiment="shared_clips", epochs="4", seed="0"
    )
    folder = Path(options["folder"])
    val = f"data.val={options['val']}"
    lists = ",".join(f"'{name}'" for name in options["train"].split(","))
    print("| text tower | pooling | t2v R@1 | R@5 | R@10 | MdR | v2t R@1 | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    print(row("zero-shot", "mean", *train_py(folder / "zero-shot", "eval_only=true", val)))
    for text, text_options in TEXT_TOWER.items():
        for pooling, pooling_options in POOLING.items():
            run = f"{text}-{pooling}".replace(" ", "-").replace(",", "")
            result = train_py(
                folder / run,
                f"experiment={options['experiment']}",
                f"data.train=[{lists}]",
                val,
                "data.max_tokens=32",
                f"loop.epochs={options['epochs']}",
                f"loop.seed={options['seed']}",
                *text_options,
                *pooling_options,
            )
            print(row(text, pooling, *result), flush=True)


if __name__ == "__main__":
    main()
